"""Row: one (image, view, region) that a spec captions."""

from collections.abc import Iterator
from dataclasses import dataclass

from schemas.bank import Bank
from schemas.canonical import fingerprint
from schemas.manifest import Manifest
from schemas.region import Region, View
from storage.store import ArtifactStore
from storage.tables import read_table


@dataclass(frozen=True, slots=True)
class Sample:
    """What the plan needs to know of an image; its bytes stay in the tar."""

    image_sha256: str
    format: str
    width: int
    height: int
    orientation: int
    mode: str


@dataclass(frozen=True, slots=True)
class Row:
    """One caption to be: an image in a view with a region."""

    sample: Sample
    view: View
    region: Region

    def caption_id(self, spec_id: str) -> str:
        """Names the caption of this row by that spec: 32 hex digits."""
        return fingerprint([self.sample.image_sha256, self.view.id, self.region.id, spec_id])[:32]


_COLUMNS = ["image_sha256", "format", "width", "height", "orientation", "mode"]


def read_samples(store: ArtifactStore, shard: Manifest) -> list[Sample]:
    """The samples of a shard, by ascending key."""
    from schemas.tables import SAMPLES

    table = read_table(store.read(shard, "samples.parquet"), SAMPLES, _COLUMNS)
    columns = (table.column(name).to_pylist() for name in _COLUMNS)
    return sorted((Sample(*values) for values in zip(*columns, strict=True)), key=lambda sample: sample.image_sha256)


def shard_rows(samples: list[Sample], bank: Bank) -> Iterator[Row]:
    """Every row of a shard, in the order in which captions are written."""
    for sample in samples:
        pairs = sorted(bank.pairs(sample.image_sha256), key=lambda pair: (pair[0].id, pair[1].id))
        seen = set()
        for view, region in pairs:
            if (view.id, region.id) not in seen:
                seen.add((view.id, region.id))
                yield Row(sample, view, region)
