"""What the commands share: --root and --json, one-line failures, tables."""

import errno
import json
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click
from pydantic import BaseModel, ValidationError

from schemas.errors import VipError

if TYPE_CHECKING:
    from schemas.runner import Runner

F = TypeVar("F", bound=Callable[..., Any])
Config = TypeVar("Config", bound=BaseModel)


def shared_options(function: F) -> F:
    """Add ``--root`` and ``--json`` to a command; its function takes ``root: str`` and ``as_json: bool``."""
    function = click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")(function)
    return click.option(
        "--root", default="./.vip", show_default=True, envvar="VIP_ROOT", help="Folder or URL of the artifact store."
    )(function)


def config_option(function: F) -> F:
    """Add ``--config`` to a command; its function takes ``config: Path``, for ``load_config``."""
    return click.option("--config", type=click.Path(path_type=Path), required=True, help="YAML, see configs/.")(
        function
    )


def runner_option(function: F) -> F:
    """Add ``--runner`` to a command; its function takes ``runner: Runner | None``."""
    return click.option(
        "--runner",
        callback=lambda _context, _option, given: _runner(given),
        metavar="KIND[,NAME=VALUE...]",
        help="threads, dask or ray, with settings as in dask,workers=4. [default: threads]",
    )(function)


def _runner(given: str | None) -> "Runner | None":
    from schemas.runner import Runner, parse_runner

    if given is None:
        return None
    try:
        settings = parse_runner(given)
    except ValueError as error:
        fail(VipError(f"--runner: {error}"))
    try:
        return validated(Runner, "--runner", **settings)
    except VipError as error:
        fail(error)


def fail(error: VipError) -> NoReturn:
    """Print one line that says what was wrong and what to do, and exit with 1."""
    click.echo(f"vip: {one_line(str(error))}", err=True)
    raise SystemExit(1)


def one_line(text: str) -> str:
    """A text that may quote a hostile file, on one line of at most 2,000 characters, without control characters."""
    line = " ".join(text.split())
    line = line if len(line) <= _LONGEST_LINE else f"{line[: _LONGEST_LINE // 2]} ... {line[-_LONGEST_LINE // 2 :]}"
    return plain(line)


def plain(text: str) -> str:
    """A text of anyone's without what would colour or command a terminal, or turn the reading direction."""
    return "".join(character if character.isprintable() else "\ufffd" for character in text)


_LONGEST_LINE = 2000
_COMMANDING = re.compile("[\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")  # what JSON leaves as it is
_REMEDIES = {
    errno.ENOSPC: "make room; what was done is kept, run again to go on",
    errno.EDQUOT: "make room; what was done is kept, run again to go on",
    errno.EFBIG: "raise the limit of file sizes (ulimit -f), then run again to go on",
    errno.EROFS: "give a --root that can be written to",
    errno.EACCES: "give a --root that can be written to, or mend its permissions",
    errno.EPERM: "give a --root that can be written to, or mend its permissions",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
}


def os_error(error: OSError) -> VipError:
    """What the operating system refused, as one line with a remedy."""
    what = error.strerror or " ".join(str(error).split()) or type(error).__name__
    where = f"{error.filename}: " if error.filename else ""
    remedy = _REMEDIES.get(error.errno or 0, "mend it, then run again to go on")
    return VipError(f"{where}{what}", remedy)


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    text = json.dumps(value, indent=2, default=str, ensure_ascii=False)
    click.echo(_COMMANDING.sub(lambda found: f"\\u{ord(found[0]):04x}", text))


def print_table(rows: Iterable[Sequence[Any]], header: Sequence[str] | None = None) -> None:
    """Aligned columns on standard output, plain enough for a log."""
    cells = [[plain(str(cell)) for cell in row] for row in rows]
    if header:
        cells.insert(0, list(header))
    if not cells:
        return
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    for row in cells:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def load_config(path: Path, model: type[Config]) -> Config:
    """Read a YAML file as ``model``.

    Raises:
        VipError: naming the file, the first wrong setting and what is wrong with it.
    """
    from storage.yaml_file import read_yaml

    raw = read_yaml(path)
    try:
        return model.model_validate(raw if raw is not None else {})
    except ValidationError as error:
        raise config_error(str(path), error) from error


def validated(model: type[Config], what: str, **values: Any) -> Config:
    """``model(**values)`` with its first problem as one line.

    Raises:
        VipError: where a value is not allowed.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise config_error(what, error) from error


def config_error(name: str, error: ValidationError) -> VipError:
    """The first problem of a validation as one line."""
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"]) or "the file"
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        return VipError(f"{name}: {place} is no known setting", "remove it or mend its spelling")
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return VipError(f"{name}: {place}: {message}{more}", "mend the setting")


def is_terminal() -> bool:
    """Whether a person watches standard error."""
    return sys.stderr.isatty()
