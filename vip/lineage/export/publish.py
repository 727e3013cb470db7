"""Published folders: a dataset with its Croissant card, or captions with their images, for others to load."""

import hashlib
import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from schemas.errors import VipError
from vip.lineage import graph
from vip.lineage.export.croissant import card
from vip.lineage.index import LineageIndex
from vip.lineage.resolve import live_shards, resolve_live
from vip.lineage.rows import image_bytes, read_rows
from vip.sharding.build import NAMES_TABLE

Progress = Callable[[str, int, int], None]
CARD = "croissant.json"


def require_empty(folder: Path) -> Path:
    """The folder, made; what is in it already is never mixed with an export.

    Raises:
        VipError: where it holds something.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise VipError(f"{folder} is not empty", "give a new folder")
    return folder


def export_dataset(
    index: LineageIndex, text: str, folder: Path, licence: str | None = None, progress: Progress | None = None
) -> dict[str, Any]:
    """Write a dataset as a folder: ``shards/<prefix>.tar``, ``samples/<prefix>.parquet``, ``names.parquet``, a card.

    Files are hard links where the root lies on the same disk, else copies.

    Returns:
        Counts of what was written.

    Raises:
        VipError: where the folder is not empty, or a shard was removed.
    """
    row = resolve_live(index, text, ["dataset"])
    shards = live_shards(index, row["id"])
    require_empty(folder)
    for done, shard in enumerate(shards, 1):
        prefix = graph.loads(shard["params"])["prefix"]
        _place(index, f"{graph.folder(shard)}/samples.tar", folder / "shards" / f"{prefix}.tar")
        _place(index, f"{graph.folder(shard)}/samples.parquet", folder / "samples" / f"{prefix}.parquet")
        if progress:
            progress("shards exported", done, len(shards))
    _place(index, f"{graph.folder(row)}/{NAMES_TABLE}", folder / NAMES_TABLE)
    made = card(index, row, published=True, licence=licence)
    (folder / CARD).write_text(json.dumps(made, indent=1, ensure_ascii=False) + "\n")
    return {"dataset": row["key"], "shards": len(shards), "samples": sum(shard["rows"] or 0 for shard in shards)}


def export_captions(index: LineageIndex, text: str, folder: Path, progress: Progress | None = None) -> dict[str, Any]:
    """Write a caption set with its images as a folder that Hugging Face ``datasets`` loads.

    ``load_dataset("imagefolder", data_dir=folder)`` gives the splits, with the columns of ``metadata.jsonl``. An image
    with captions for several regions has one row for each, all naming one file.

    Returns:
        Counts of what was written.

    Raises:
        VipError: where the folder is not empty, or a shard was removed.
    """
    row = resolve_live(index, text, ["caption_set"])
    parts = [graph.artifact(index, one["id"]) for one in graph.inputs(index, row["id"]) if one["kind"] == "captions"]
    require_empty(folder)
    rows: dict[str, int] = {}
    images = 0
    for done, part in enumerate(parts, 1):
        shard = graph.input_of(index, part["id"], "shard")
        if shard is None or shard["state"] != "live":
            raise VipError(
                f"the images of captions {part['key'][:12]} are gone: {shard and shard['problem']}",
                "caption the dataset's next version",
            )
        written: set[str] = set()
        for split, name, data, line in _captioned(index, part, graph.artifact(index, shard["id"])):
            place = folder / split
            place.mkdir(exist_ok=True)
            if name not in written:
                (place / name).write_bytes(data)
                written.add(name)
            with (place / "metadata.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
            rows[split] = rows.get(split, 0) + 1
        images += len(written)
        if progress:
            progress("shards exported", done, len(parts))
    return {"caption_set": row["key"], "images": images, "rows": sum(rows.values()), "splits": rows}


_CAPTION = ("caption_id", "image_sha256", "view", "region", "centre", "surrounding", "total", "spec_id")


def _captioned(
    index: LineageIndex, part: sqlite3.Row, shard: sqlite3.Row
) -> Iterator[tuple[str, str, bytes, dict[str, Any]]]:
    samples = {sample["image_sha256"]: sample for sample in read_rows(index, shard, "samples.parquet")}
    for row in read_rows(index, part, "captions.parquet"):
        sample = samples[row["image_sha256"]]
        data = image_bytes(index, shard, sample)
        if hashlib.sha256(data).hexdigest() != row["image_sha256"]:
            raise VipError(f"{graph.folder(shard)}/samples.tar has changed", "run `vip audit verify`")
        line = {"file_name": sample["member"]} | {name: row[name] for name in _CAPTION}
        yield sample["split"], sample["member"], data, line


def _place(index: LineageIndex, path: str, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    local = index.backend.local_path(path)
    if local is not None:
        try:
            os.link(local, target)
            return
        except OSError:
            shutil.copyfile(local, target)
            return
    with index.backend.open(path) as source, target.open("wb") as sink:
        shutil.copyfileobj(source, sink, 8 << 20)
