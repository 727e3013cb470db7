"""Parquet tables: declared schemas, equal rows give equal bytes."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.errors import VipError
from storage.tables import read_table, write_table

SCHEMA = pa.schema([pa.field("id", pa.string(), nullable=False), pa.field("note", pa.string())])


def test_same_rows_same_bytes(tmp_path):
    rows = [{"id": "a", "note": None}, {"id": "b", "note": None}]
    write_table(tmp_path / "1.parquet", rows, SCHEMA)
    write_table(tmp_path / "2.parquet", iter(rows), SCHEMA)
    assert (tmp_path / "1.parquet").read_bytes() == (tmp_path / "2.parquet").read_bytes()


def test_a_column_of_nulls_keeps_its_declared_type(tmp_path):
    write_table(tmp_path / "t.parquet", [{"id": "a", "note": None}], SCHEMA)
    assert pq.read_schema(tmp_path / "t.parquet").field("note").type == pa.string()
    write_table(tmp_path / "empty.parquet", [], SCHEMA)
    assert read_table(tmp_path / "empty.parquet", SCHEMA).schema == SCHEMA


def test_a_missing_required_value_is_refused(tmp_path):
    with pytest.raises(VipError, match="column id must not be empty"):
        write_table(tmp_path / "t.parquet", [{"id": None, "note": "x"}], SCHEMA)


def test_columns_that_came_later_read_as_nulls(tmp_path):
    older = pa.schema([SCHEMA.field("id")])
    write_table(tmp_path / "t.parquet", [{"id": "a"}], older)
    assert read_table(tmp_path / "t.parquet", SCHEMA).to_pylist() == [{"id": "a", "note": None}]
    with pytest.raises(VipError, match="lacks the column id"):
        write_table(tmp_path / "u.parquet", [{"note": "x"}], pa.schema([SCHEMA.field("note")]))
        read_table(tmp_path / "u.parquet", SCHEMA)


def test_rubbish_is_named(tmp_path):
    (tmp_path / "bad.parquet").write_bytes(b"not parquet")
    with pytest.raises(VipError, match=r"bad\.parquet is no readable Parquet"):
        read_table(tmp_path / "bad.parquet", SCHEMA)
