"""Where files lie that are derived from a root and may be deleted at any time."""

import os
from pathlib import Path

from schemas.canonical import sha256_hex
from storage.backend import Backend


def derived_file(backend: Backend, name: str) -> Path:
    """A local path for a derived file, its folder made: inside a local root, else in the user's cache.

    A local root that cannot be written to (read-only mount, someone else's folder) gets the cache too.
    """
    own = backend.local_path("index")
    if own is not None:
        try:
            own.mkdir(parents=True, exist_ok=True)
        except OSError:
            own = None
    if own is None or not os.access(own, os.W_OK):
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        own = cache / "vip" / sha256_hex(backend.url.encode())[:16]
        own.mkdir(parents=True, exist_ok=True)
    return own / name
