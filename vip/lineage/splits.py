"""Splits: in which shards an image lay and of which split it was there, as far as that is still recorded."""

from collections.abc import Iterator

from vip.lineage import graph
from vip.lineage.index import LineageIndex
from vip.lineage.resolve import names_tables


def splits_of(index: LineageIndex, image: bytes) -> dict[int, str | None]:
    """Every shard that is known to hold or to have held an image -> its split there, None where nobody can tell now.

    The rows of a shard that was removed are gone. The datasets of its time still name the image and its split, its
    captions say that it was there, and the counts in its manifest whether there was a choice.

    Args:
        index: the index of the root.
        image: the first 16 bytes of its SHA-256.
    """
    samples = index.db.execute("SELECT artifact, split FROM sample WHERE image = ?", (image,))
    held: dict[int, str | None] = {row["artifact"]: row["split"] for row in samples}
    if index.db.execute("SELECT 1 FROM artifact WHERE kind = 'shard' AND state != 'live' LIMIT 1").fetchone():
        for shard, split in _named(index, image):
            held[shard] = held.get(shard) or split
        captioned = index.db.execute(
            """SELECT DISTINCT parent FROM caption JOIN edge ON edge.child = caption.artifact
            JOIN artifact ON artifact.id = parent WHERE image = ? AND artifact.kind = 'shard'""",
            (image,),
        )
        for row in captioned:
            held.setdefault(row["parent"], None)
    return {shard: split or _only_split(index, shard) for shard, split in held.items()}


def _named(index: LineageIndex, image: bytes) -> Iterator[tuple[int, str | None]]:
    """(shard, split) from the datasets that stand; those of an older format do not say which split."""
    for dataset, table in names_tables(index, ["image_sha256", "shard", "split"]):
        for sha256, prefix, split in zip(*(column.to_pylist() for column in table.columns), strict=True):
            if sha256.startswith(image.hex()):
                shard = index.db.execute(
                    "SELECT parent FROM edge WHERE child = ? AND role = ?", (dataset, f"shard/{prefix}")
                ).fetchone()
                if shard is not None:
                    yield shard["parent"], split


def _only_split(index: LineageIndex, shard: int) -> str | None:
    """The split of all samples of a shard, by what its manifest counted, or None."""
    empty = [split for split, images in graph.images_of(index, [shard])[shard].items() if not images]
    return {"train": "test", "test": "train"}[empty[0]] if len(empty) == 1 else None
