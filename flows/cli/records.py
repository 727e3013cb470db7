"""Records for people: sections of names and values, and tables, as plain text."""

import json
import re
from typing import Any

import click

from flows.cli.common import plain, print_json, print_table

_DIGEST = re.compile(r"(?<![\w/])([0-9a-f]{16})[0-9a-f]{16,48}(?![\w/.])")  # alone, not in the path of a file
_WIDE = 100


def print_record(record: dict[str, Any], as_json: bool = False) -> None:
    """Print an answer: one section for each key, a table for each list of records."""
    if as_json:
        print_json(record)
        return
    first = True
    for title, value in record.items():
        if not value and value != 0:
            continue
        if not first:
            click.echo()
        first = False
        if isinstance(value, dict):
            click.secho(title, bold=True)
            _print_values(value)
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            click.secho(f"{title} ({len(value):,})", bold=True)
            print_rows(value)
        else:
            click.echo(f"{click.style(title, bold=True)}  {_cell(value)}")


def print_rows(rows: list[dict[str, Any]]) -> None:
    """A table of records; columns in which nothing stands are left out, digests are cut to 16 digits."""
    columns: list[str] = []
    for row in rows:
        columns += [name for name, value in row.items() if name not in columns and value not in (None, "", [], {})]
    print_table([[_short(row.get(column)) for column in columns] for row in rows], columns)


def _print_values(values: dict[str, Any], indent: str = "  ") -> None:
    plain = {name: value for name, value in values.items() if not _nested(value) and value not in (None, "", [], {})}
    width = max((len(name) for name in plain), default=0)
    for name, value in values.items():
        if name in plain:
            click.echo(f"{indent}{name.ljust(width)}  {_cell(value)}")
        elif isinstance(value, dict) and value:
            click.echo(f"{indent}{name}")
            _print_values(value, indent + "  ")
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            click.echo(f"{indent}{name}")
            print_rows(value)


def _nested(value: Any) -> bool:
    if isinstance(value, dict):
        return bool(value) and len(json.dumps(value, default=str)) > _WIDE
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_cell(one)}" for name, one in value.items() if one not in (None, "", [], {}))
    if isinstance(value, list):
        return ", ".join(_cell(one) for one in value)
    return "" if value is None else plain(" ".join(str(value).split())) or repr(value)


def _short(value: Any) -> str:
    return _DIGEST.sub(r"\1", _cell(value)) if value not in (None, "", [], {}) else ""
