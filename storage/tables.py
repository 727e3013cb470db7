"""Parquet tables with a declared schema, the same bytes for the same rows."""

import io
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.errors import VipError

_GROUP = 16_384
"""Rows that a streamed table holds in memory."""


def write_table(path: Path, rows: Iterable[dict[str, Any]] | pa.Table, schema: pa.Schema) -> int:
    """Write ``rows`` as Parquet with exactly ``schema``.

    Returns:
        The number of rows.

    Raises:
        VipError: where a row does not fit the schema.
    """
    table = _fitting(rows if isinstance(rows, pa.Table) else list(rows), schema, path.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, compression="zstd", store_schema=True)
    return table.num_rows


def stream_table(path: Path, rows: Iterable[dict[str, Any]], schema: pa.Schema) -> int:
    """Write rows that come one after the other, a row group in memory at a time; the same bytes for the same rows.

    Returns:
        The number of rows.

    Raises:
        VipError: where a row does not fit the schema.
    """
    count, left = 0, iter(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    with pq.ParquetWriter(path, schema, compression="zstd", store_schema=True) as writer:
        while group := list(islice(left, _GROUP)):
            writer.write_table(_fitting(group, schema, path.name))
            count += len(group)
    return count


def _fitting(rows: list[dict[str, Any]] | pa.Table, schema: pa.Schema, name: str) -> pa.Table:
    try:
        table = rows if isinstance(rows, pa.Table) else pa.Table.from_pylist(rows, schema=schema)
        for field in schema:
            if not field.nullable and table.column(field.name).null_count:
                raise VipError(f"{name}: column {field.name} must not be empty")
        return table.cast(schema)
    except (pa.ArrowInvalid, pa.ArrowTypeError, ValueError) as error:
        raise VipError(f"rows for {name} do not fit its schema: {error}") from error


def read_table(data: bytes | Path, schema: pa.Schema, columns: list[str] | None = None) -> pa.Table:
    """Read Parquet and bring it to ``schema``; columns that an older writer did not know come as nulls.

    Raises:
        VipError: where the file is no Parquet or lacks a column that must be there.
    """
    source = data if isinstance(data, Path) else io.BytesIO(data)
    name = data.name if isinstance(data, Path) else "table"
    wanted = [schema.field(column) for column in columns] if columns else list(schema)
    try:
        file = pq.ParquetFile(source)
        present = set(file.schema_arrow.names)
        table = file.read(columns=[field.name for field in wanted if field.name in present])
    except (pa.ArrowInvalid, OSError) as error:
        raise VipError(f"{name} is no readable Parquet: {error}", "run `vip audit verify`") from error
    for position, field in enumerate(wanted):
        if field.name in present:
            continue
        if not field.nullable:
            raise VipError(f"{name} lacks the column {field.name}", "run `vip audit verify`")
        table = table.add_column(position, field, pa.nulls(table.num_rows, field.type))
    table, declared = table.select([field.name for field in wanted]), pa.schema(wanted)
    # A cast imports pyarrow.compute, which costs as much as reading many a table.
    return table if table.schema.equals(declared) else table.cast(declared)
