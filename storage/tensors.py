"""Rows of tensors: many arrays of one shape as safetensors, in parts of bounded size, each row readable alone."""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from schemas.errors import VipError

ROWS_A_PART = 256
"""Rows of one file; bounds what a writer holds in memory."""

OnRow = Callable[[int], None]
"""Called with the number of rows so far."""

_NAME = "rows"


def write_rows(folder: Path, rows: Iterable[np.ndarray], on_row: OnRow | None = None) -> int:
    """Write arrays of one shape and type as ``part-00000.safetensors`` and so on.

    Returns:
        The number of rows.
    """
    part: list[np.ndarray] = []
    count = 0
    for row in rows:
        part.append(row)
        count += 1
        if on_row is not None:
            on_row(count)
        if len(part) == ROWS_A_PART:
            _write(folder, count - 1, part)
            part = []
    if part:
        _write(folder, count - 1, part)
    return count


def read_row(folder: Path, number: int) -> np.ndarray:
    """The array that was written as row ``number``; only its own bytes are read.

    Raises:
        VipError: where its file is missing or damaged.
    """
    path = _part(folder, number)
    try:
        # Opened anew for each row: a header of a hundred bytes against thousands of open files.
        with safe_open(path, "np") as tensors:
            return tensors.get_slice(_NAME)[number % ROWS_A_PART]
    except (SafetensorError, OSError, IndexError) as error:
        raise VipError(f"{path} cannot be read: {error}", "run `vip audit verify`") from error


def _write(folder: Path, last: int, part: list[np.ndarray]) -> None:
    save_file({_NAME: np.stack(part)}, _part(folder, last))


def _part(folder: Path, number: int) -> Path:
    return folder / f"part-{number // ROWS_A_PART:05d}.safetensors"
