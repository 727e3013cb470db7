"""Scratch: local folders for what is no artifact, and may be deleted when nothing runs."""

import os
from pathlib import Path

from schemas.canonical import sha256_hex
from storage.backend import Backend

SETTING = "VIP_SCRATCH"
"""Environment variable that names the folder under which every root gets its scratch folder."""


def scratch_folder(backend: Backend) -> Path:
    """A local folder for journals, training states, logs, Prefect's database and copies of remote files.

    It lies under ``VIP_SCRATCH`` where that is set, else in the root where that is a local folder, else in the user's
    cache; one folder a root. It has to outlive the process: what a killed run had answered is found there.
    """
    chosen = os.environ.get(SETTING)
    if backend.is_local and not chosen:
        return Path(backend.root) / "scratch"
    return _of_root(backend, Path(chosen).expanduser().absolute() if chosen else _cache())


def derived_file(backend: Backend, name: str) -> Path:
    """A local path for a file derived from a root, its folder made: inside a local root, else in scratch.

    A local root that cannot be written to (read-only mount, someone else's folder) gets scratch outside it too.
    """
    own = backend.local_path("index")
    if own is not None:
        try:
            own.mkdir(parents=True, exist_ok=True)
        except OSError:
            own = None
    if own is None or not os.access(own, os.W_OK):
        chosen = os.environ.get(SETTING)
        own = _of_root(backend, Path(chosen).expanduser().absolute() if chosen else _cache())
        own.mkdir(parents=True, exist_ok=True)
    return own / name


def _of_root(backend: Backend, folder: Path) -> Path:
    return folder / sha256_hex((backend.root if backend.is_local else backend.url).encode())[:16]


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vip"
