"""Walk the rows of a Parquet file that holds image bytes."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.errors import VipError
from schemas.sharding import RejectReason, ShardSettings
from storage.items import Column, Item, RowPlace, Unread, open_binary, stated_split

_USUAL = ("image", "jpg", "jpeg", "png", "webp", "img", "image_bytes", "bytes", "content")


def walk_parquet(path: str, name: str, settings: ShardSettings, strict: bool) -> Iterator[Item | Unread]:
    """Every row, read a row group at a time; a row group that cannot be read is reported and the next one follows.

    Args:
        path: local path or URL of the file.
        name: what it is called in the dataset.
        settings: which columns to take.
        strict: the file is the whole source, so that a wrong schema is an error and no row of the rejects table.

    Raises:
        VipError: where ``strict`` and the file is no Parquet, is encrypted, or has no usable column of bytes; and where
            a store does not answer.
    """
    reason = RejectReason.DAMAGED_PARQUET
    try:
        with open_binary(path) as source:
            file = pq.ParquetFile(source)
            reason = RejectReason.WRONG_SCHEMA
            column = find_column(file.schema_arrow, settings.image_column)
            names = _name_column(file.schema_arrow, column, settings.name_column)
            reason = RejectReason.DAMAGED_PARQUET
            yield from _rows(file, path, name, settings, column, names)
    except (OSError, pa.ArrowException, UnicodeDecodeError, VipError) as error:  # Unicode: the name of a column
        if isinstance(error, VipError) and reason is not RejectReason.WRONG_SCHEMA:
            raise  # the store does not answer: it says nothing of the file
        detail = error.reason if isinstance(error, VipError) else _short(error)
        if strict:
            remedy = error.remedy if isinstance(error, VipError) else "give a whole, unencrypted Parquet file"
            raise VipError(f"{name}: {detail}", remedy) from error
        yield Unread(name, reason, detail)


def find_column(schema: pa.Schema, wanted: str | None) -> Column:
    """The column of image bytes, which may be the ``bytes`` of a struct (as Hugging Face writes images).

    Raises:
        VipError: where the wanted one is missing, stands twice or holds no bytes, or where none or several could be
            meant.
    """
    doubled = _doubled(schema)
    able = [leaf for field in schema if field.name not in doubled and (leaf := _leaf(field)) is not None]
    described = ", ".join(f"{field.name} ({field.type})" for field in schema)[:200]
    if wanted is not None:
        for leaf in able:
            if wanted in (str(leaf), leaf.top):
                return leaf
        _refuse_doubled({wanted} & doubled)
        raise VipError(
            f"no column of bytes is called {wanted}; there are {described}", "set image_column to one of bytes"
        )
    if len(able) == 1:
        return able[0]
    usual = [leaf for word in _USUAL for leaf in able if leaf.top.split(".")[0].lower() == word]
    if usual:
        return usual[0]
    if able:
        raise VipError(
            f"several columns could hold images: {', '.join(map(str, able))}", "set image_column to one of them"
        )
    _refuse_doubled(doubled)
    raise VipError(f"no column of image bytes; there are {described}", "give a table with a binary column")


def _doubled(schema: pa.Schema) -> set[str]:
    return {name for name, count in Counter(schema.names).items() if count > 1}


def _refuse_doubled(names: set[str]) -> None:
    if names:
        raise VipError(f"several columns are called {', '.join(sorted(names))[:200]}", "give each a name of its own")


def _leaf(field: pa.Field) -> Column | None:
    def is_bytes(kind: pa.DataType) -> bool:
        return pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind)

    if is_bytes(field.type):
        return Column(field.name)
    if pa.types.is_struct(field.type):
        place = field.type.get_field_index("bytes")
        if place >= 0 and is_bytes(field.type.field(place).type):
            return Column(field.name, "bytes")
    return None


def _name_column(schema: pa.Schema, column: Column, wanted: str | None) -> Column | None:
    if wanted is not None:
        if wanted not in schema.names:
            raise VipError(
                f"no column is called {wanted}", f"set name_column to one of {', '.join(schema.names)[:200]}"
            )
        _refuse_doubled({wanted} & _doubled(schema))
        return Column(wanted)
    if column.inner and schema.field(column.top).type.get_field_index("path") >= 0:
        return Column(column.top, "path")
    return None


def _rows(
    file: pq.ParquetFile, path: str, name: str, settings: ShardSettings, column: Column, names: Column | None
) -> Iterator[Item | Unread]:
    number = 0
    for group in range(file.num_row_groups):
        rows = file.metadata.row_group(group).num_rows
        row = 0
        try:
            columns = sorted({str(column), str(names or column)})
            for batch in file.iter_batches(batch_size=64, row_groups=[group], columns=columns):
                titles = _titles(names.of(batch)) if names else []
                for place, blob in enumerate(column.of(batch)):
                    title = titles[place] if names else None
                    full = f"{name}/row-{number + row:09d}" if title in (None, "") else f"{name}/{title}"
                    data = blob.as_py() or b""
                    split = stated_split(full, settings.splits)
                    yield Item(full, RowPlace(path, column, group, row), len(data), split, data, name)
                    row += 1
        except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
            detail = f"row group {group}, from row {row} of {rows}: {_short(error)}"
            yield Unread(name, RejectReason.DAMAGED_PARQUET, detail)
        number += rows


def _titles(values: Any) -> list[Any]:
    r"""The names of rows; as in a tar, bytes that are no UTF-8 become ``\xNN``."""
    if not (pa.types.is_string(values.type) or pa.types.is_large_string(values.type)):
        return values.to_pylist()
    return [raw and raw.decode("utf-8", "backslashreplace") for raw in values.cast(pa.large_binary()).to_pylist()]


def _short(error: Any) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
