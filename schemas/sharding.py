"""Sharding: how a source of images becomes a dataset, and why a file may not become a sample."""

from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field, field_validator

PILLOW_PIXEL_LIMIT = 178_956_970
"""Pillow refuses to open larger images (twice its ``MAX_IMAGE_PIXELS``); no later stage could read them."""


class RejectReason(StrEnum):
    """Why a file, a tar member or a Parquet row did not become a sample."""

    EMPTY = "empty"  # zero bytes, or a null in a table
    NOT_AN_IMAGE = "not_an_image"  # the first bytes are of no image format that is read here
    TRUNCATED = "truncated"  # the pixels end before the image does
    UNDECODABLE = "undecodable"  # it begins like an image but cannot be decoded
    TOO_MANY_PIXELS = "too_many_pixels"  # above the limit on pixels; never decoded
    TOO_MANY_SCANS = "too_many_scans"  # a progressive JPEG that would take minutes to hours to decode
    TOO_LARGE = "too_large"  # above the limit on bytes; never read
    UNREADABLE = "unreadable"  # the operating system or the file system refused
    NOT_A_FILE = "not_a_file"  # a pipe, socket or device
    SYMLINK_LOOP = "symlink_loop"  # a link to a folder that is being read or was read
    TAR_LINK = "tar_link"  # a link, device or sparse member inside a tar; never followed
    DAMAGED_TAR = "damaged_tar"  # a tar that ends early or holds a broken header; what can be read is read
    DAMAGED_PARQUET = "damaged_parquet"  # a Parquet file, or a row group in one, that cannot be read
    WRONG_SCHEMA = "wrong_schema"  # a Parquet file without a column of image bytes
    MISSING = "missing"  # a split list names it, the source does not hold it
    SUPPRESSED = "suppressed"  # on the suppression list


class ShardSettings(BaseModel):
    """How a source becomes a dataset.

    Attributes:
        name: the dataset's name; its ref is ``dataset/<name>``. Never part of a key.
        bits: number of leading bits of a sample's key that name its shard; None chooses from the number of samples.
        samples_per_shard: what None aims at.
        test_share: share of the samples that go to test where the source states no split, 0..1.
        splits: folder name (or first word of a tar's or Parquet file's name) -> split. Empty: by key alone.
        train_list, test_list: files that name the images of each split; what neither names stays out. They go before
            ``splits``.
        max_pixels: images with more are rejected without decoding them.
        max_bytes: files with more are rejected without reading them.
        image_column: column of a Parquet file that holds the bytes; None looks for the only one that can.
        name_column: column of a Parquet file that names its rows; None takes the path beside the bytes, or
            the row number.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(default="images", pattern="^[a-z0-9][a-z0-9._-]*$")
    bits: int | None = Field(default=None, ge=1, le=20)
    samples_per_shard: int = Field(default=2000, ge=1)
    test_share: float = Field(default=0.1, ge=0.0, le=1.0)
    splits: dict[str, str] = {
        "train": "train",
        "training": "train",
        "test": "test",
        "testing": "test",
        "val": "test",
        "valid": "test",
        "validation": "test",
    }
    train_list: str | None = None
    test_list: str | None = None
    max_pixels: int = Field(default=PILLOW_PIXEL_LIMIT, ge=1, le=PILLOW_PIXEL_LIMIT)
    max_bytes: int = Field(default=256 << 20, ge=1)
    image_column: str | None = None
    name_column: str | None = None

    @field_validator("splits")
    @classmethod
    def _known_splits(cls, value: dict[str, str]) -> dict[str, str]:
        wrong = sorted(set(value.values()) - {"train", "test"})
        if wrong:
            raise ValueError(f"a split is train or test, not {', '.join(wrong)}")
        return {name.lower(): split for name, split in value.items()}
