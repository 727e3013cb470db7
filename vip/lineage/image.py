"""What is known of an image: its bytes, names, shards, captions and what used it."""

import hashlib
from pathlib import Path

from schemas.errors import VipError
from vip.lineage import graph
from vip.lineage.caption import captions_of_image
from vip.lineage.graph import Record
from vip.lineage.index import LineageIndex
from vip.lineage.rejects import rejects_of
from vip.lineage.resolve import is_prefix, names, resolve_image, whole_sha256
from vip.lineage.rows import check_image, read_row
from vip.lineage.usage import usage_of


def trace_image(index: LineageIndex, text: str) -> Record:
    """Everything the root knows of one image.

    Args:
        index: the index of the root.
        text: a file, a unique prefix of the SHA-256 of its bytes, or a name it had in a source.

    Returns:
        ``image``, ``shards``, ``names``, ``captions``, ``used_by``, ``rejected`` (by which datasets, and why) and
        ``checks`` (its bytes re-hashed in every shard).

    Raises:
        VipError: where no image, or more than one, fits.
    """
    try:
        image, file = resolve_image(index, text)
    except VipError:
        rejected = rejects_of(index, sha256=text.lower() if is_prefix(text) else "", name=text)
        if not rejected:
            raise
        return {"image": {"sha256": rejected[0]["sha256"], "known": False}, "rejected": rejected, "checks": []}
    sha256, facts, shards, checks = _file_sha(file), {}, [], []
    for place in index.db.execute("SELECT * FROM sample WHERE image = ?", (image,)).fetchall():
        owner = graph.artifact(index, place["artifact"])
        sample = read_row(index, owner, "samples.parquet", place["row"])
        sha256 = sample["image_sha256"]
        facts = {name: sample[name] for name in ("format", "mode", "width", "height", "orientation", "bytes")}
        shards.append(graph.brief(owner) | {"member": sample["member"], "split": sample["split"]})
        checks.append(check_image(index, owner, sample))
    captions = captions_of_image(index, image)
    known = bool(shards or captions or file is None)  # only what is known has an id or a name
    used: dict[str, int] = {}
    for one in graph.descendants(index, usage_of(index, image).starts):
        used[one["kind"]] = used.get(one["kind"], 0) + 1
    sha256 = sha256 or whole_sha256(index, image)
    return {
        "image": {"sha256": sha256, "known": known} | facts,
        "names": sorted({name for of, name in names(index) if of.startswith(image.hex())}) if known else [],
        "shards": shards,
        "captions": captions,
        "used_by": used,
        "rejected": rejects_of(index, sha256),
        "checks": checks,
    }


def _file_sha(file: Path | None) -> str:
    if file is None:
        return ""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
