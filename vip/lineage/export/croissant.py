"""Croissant 1.1: a card that describes a dataset to machines, with the hash of every file and where it came from."""

import sqlite3
from datetime import datetime
from pathlib import Path
from typing import Any

import mlcroissant as mlc

from vip.lineage import graph
from vip.lineage.index import LineageIndex
from vip.lineage.resolve import live_shards
from vip.sharding.build import NAMES_TABLE

CONFORMS_TO = "http://mlcommons.org/croissant/1.1"
_FIELDS = {
    "image_sha256": (mlc.DataType.TEXT, "SHA-256 of the image's original bytes; its key"),
    "split": (mlc.DataType.TEXT, "train or test"),
    "format": (mlc.DataType.TEXT, "format of the original bytes"),
    "width": (mlc.DataType.INTEGER, "pixels, as stored"),
    "height": (mlc.DataType.INTEGER, "pixels, as stored"),
    "orientation": (mlc.DataType.INTEGER, "EXIF orientation, 1..8"),
    "bytes": (mlc.DataType.INTEGER, "size of the original bytes"),
    "member": (mlc.DataType.TEXT, "name inside the shard's tar"),
}


def card(index: LineageIndex, row: sqlite3.Row, published: bool, licence: str | None = None) -> dict[str, Any]:
    """The card of a dataset.

    Args:
        index: the index of the root.
        row: the dataset.
        published: name the files as :func:`vip.lineage.export.publish.export_dataset` lays them out; else as they lie
            in the root, relative to it.
        licence: of the images, as a URL or an SPDX name.

    Returns:
        JSON-LD.
    """
    plain = mlc.Context()
    context = mlc.Context(conforms_to=type(plain.conforms_to)(CONFORMS_TO))
    shards = live_shards(index, row["id"])
    distribution: list[Any] = []
    tables: list[str] = []
    for shard in shards:
        prefix = graph.loads(shard["params"])["prefix"]
        own = graph.loads(shard["outputs"])
        places = (f"shards/{prefix}.tar", f"samples/{prefix}.parquet")
        if not published:
            places = (f"{graph.folder(shard)}/samples.tar", f"{graph.folder(shard)}/samples.parquet")
        for name, place in zip(("samples.tar", "samples.parquet"), places, strict=True):
            what = f"{name} of the shard whose samples' keys begin with the bits {prefix}"
            distribution.append(_file(context, f"{prefix}/{name}", what, place, own[name]))
        tables.append(f"{prefix}/samples.parquet")
    place = NAMES_TABLE if published else f"{graph.folder(row)}/{NAMES_TABLE}"
    what = "the names that every image had in its source"
    distribution.append(_file(context, NAMES_TABLE, what, place, graph.loads(row["outputs"])[NAMES_TABLE]))
    name = _name(index, row)
    metadata = mlc.Metadata(
        ctx=context,
        name=name,
        description=f"{sum(shard['rows'] or 0 for shard in shards):,} images in {len(shards):,} WebDataset shards.",
        url=f"urn:sha256:{row['digest']}",
        version=_version(index, row),
        license=[licence] if licence else None,
        date_published=datetime.fromisoformat(row["finished"]).replace(tzinfo=None),
        distribution=distribution,
        record_sets=[_samples(context, table) for table in tables],
    )
    made = metadata.to_json()
    made["@context"] |= {"prov": "http://www.w3.org/ns/prov#"}
    return made | _provenance(row, shards)


def _file(context: Any, name: str, what: str, place: str, output: dict[str, Any]) -> mlc.FileObject:
    return mlc.FileObject(
        ctx=context,
        id=name,
        name=name,
        description=what,
        content_url=place,
        content_size=f"{output['bytes']} B",
        encoding_formats=[f"application/x-{name.rpartition('.')[2]}"],
        sha256=output["sha256"],
    )


def _samples(context: Any, table: str) -> mlc.RecordSet:
    prefix = table.rpartition("/")[0]
    fields = [
        mlc.Field(
            ctx=context,
            id=f"samples-{prefix}/{name}",
            name=name,
            description=description,
            data_types=[kind],
            source=mlc.Source(ctx=context, file_object=table, extract=mlc.Extract(ctx=context, column=name)),
        )
        for name, (kind, description) in _FIELDS.items()
    ]
    return mlc.RecordSet(
        ctx=context,
        id=f"samples-{prefix}",
        name=f"samples-{prefix}",
        description=f"One row for each image of shard {prefix}.",
        key=[f"samples-{prefix}/image_sha256"],
        fields=fields,
    )


def _provenance(row: sqlite3.Row, shards: list[sqlite3.Row]) -> dict[str, Any]:
    """PROV-O: the stage, code and run that made the dataset, and the shards that it was made from."""
    return {
        "prov:wasGeneratedBy": {
            "@type": "prov:Activity",
            "prov:label": f"{row['stage']} {row['stage_version']}",
            "prov:startedAtTime": row["started"],
            "prov:endedAtTime": row["finished"],
            "prov:wasAssociatedWith": {
                "@type": "prov:SoftwareAgent",
                "prov:label": "vip-outpaint",
                "prov:value": f"git {row['code']}{' with changes' if row['dirty'] else ''}" if row["code"] else "",
            },
            "prov:used": f"run {row['run']}",
        },
        "prov:wasDerivedFrom": [
            {"@type": "prov:Entity", "@id": f"urn:sha256:{shard['digest']}", "prov:label": f"shard {shard['key'][:16]}"}
            for shard in shards
        ],
    }


def _name(index: LineageIndex, row: sqlite3.Row) -> str:
    from storage.refs import Refs

    refs = Refs(index.backend)
    names = [name for name in refs.names() if any(entry.target.key == row["key"] for entry in refs.log(name))]
    return next((Path(name).name for name in names if name.startswith("dataset/")), f"dataset-{row['key'][:12]}")


def _version(index: LineageIndex, row: sqlite3.Row) -> str:
    """``1.0.<n>``: the number of the ref's entry that points at it; a card wants a version with dots."""
    from storage.refs import Refs

    refs = Refs(index.backend)
    for name in refs.names():
        for entry in refs.log(name):
            if name.startswith("dataset/") and entry.target.key == row["key"]:
                return f"1.0.{entry.number}"
    return "1.0.0"
