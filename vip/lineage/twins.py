"""Twins: samples of other bytes but the same pixels, which a takedown must not leave behind."""

import hashlib
import io
import json
from collections.abc import Callable
from typing import TYPE_CHECKING

from schemas.errors import VipError
from vip.lineage import graph
from vip.lineage.index import LineageIndex
from vip.lineage.rows import image_bytes, read_rows

if TYPE_CHECKING:
    from PIL import Image

Progress = Callable[[str, int, int], None]


def pixel_twins(index: LineageIndex, pictures: dict[str, bytes], progress: Progress | None = None) -> dict[str, str]:
    """Find the samples whose decoded pixels equal those of a picture.

    Only samples of the same size are decoded.

    Args:
        index: the index of the root.
        pictures: SHA-256 -> original bytes.
        progress: called as (what, done, total), in shards.

    Returns:
        SHA-256 of each twin -> SHA-256 of the picture that it equals.
    """
    wanted: dict[tuple[int, int], dict[str, str]] = {}
    for sha256, data in pictures.items():
        found = _pixels(data)
        if found is not None:
            size, digest = found
            wanted.setdefault(size, {})[digest] = sha256
    shards = index.db.execute("SELECT id FROM artifact WHERE kind = 'shard' AND state = 'live'").fetchall()
    twins: dict[str, str] = {}
    for done, row in enumerate(shards):
        if progress:
            progress("shards compared", done, len(shards))
        owner = graph.artifact(index, row["id"])
        for sample in read_rows(index, owner, "samples.parquet"):
            of_size = wanted.get((sample["width"], sample["height"]))
            if not of_size or sample["image_sha256"] in pictures or sample["image_sha256"] in twins:
                continue
            found = _pixels(image_bytes(index, owner, sample))
            if found is not None and found[1] in of_size:
                twins[sample["image_sha256"]] = of_size[found[1]]
    return twins


def _pixels(data: bytes) -> tuple[tuple[int, int], str] | None:
    """Size as stored and a digest of the pixels; None for what does not decode."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data)) as picture:
            size = picture.size
            return size, hashlib.sha256(json.dumps(size).encode() + _values(picture)).hexdigest()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None


def _values(picture: "Image.Image") -> bytes:
    """The pixels as RGBA where they have 8 bits; deeper ones as float64, which holds each of them exactly.

    As RGBA they would be clipped, and the scans of one size all be white.
    """
    if picture.mode.startswith("I") or picture.mode == "F":
        import numpy as np

        return b"deep" + np.asarray(picture, np.float64).tobytes()
    return picture.convert("RGBA").tobytes()


def original_bytes(index: LineageIndex, sha256: str) -> bytes | None:
    """The bytes of an image from whichever shard still holds them, or None."""
    for row in index.db.execute(
        """SELECT sample.artifact, sample.row FROM sample JOIN artifact ON artifact.id = sample.artifact
        WHERE image = ? AND state = 'live'""",
        (bytes.fromhex(sha256[:32]),),
    ).fetchall():
        owner = graph.artifact(index, row["artifact"])
        try:
            data = image_bytes(index, owner, read_rows(index, owner, "samples.parquet")[row["row"]])
        except VipError:
            continue  # another shard may hold it whole
        if hashlib.sha256(data).hexdigest() == sha256:
            return data
    return None
