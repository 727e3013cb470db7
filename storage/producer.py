"""Which code is running: commit, dirty flag and package versions, for the manifest of what it makes."""

import functools
import importlib.metadata
import os
import subprocess
from pathlib import Path

from schemas.manifest import Producer, Recipe

_PACKAGES = (
    "vip-outpaint",
    "torch",
    "diffusers",
    "transformers",
    "accelerate",
    "pyarrow",
    "webdataset",
    "pillow",
    "numpy",
    "prefect",
)


def producer_of(recipe: Recipe) -> Producer:
    """The producer of an artifact made now by ``recipe``."""
    commit, dirty = _commit()
    return Producer(
        stage=recipe.stage,
        stage_version=recipe.stage_version,
        commit=commit,
        dirty=dirty,
        packages=_versions(),
    )


@functools.cache
def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


@functools.cache
def _commit() -> tuple[str | None, bool | None]:
    """Commit and dirty flag of the checkout this code runs from; in an image, which has none, ``VIP_COMMIT``."""
    here = Path(__file__).resolve().parent.parent
    if not (here / ".git").exists():
        return os.environ.get("VIP_COMMIT") or None, None
    try:
        commit = _git(here, "rev-parse", "HEAD")
        return commit, bool(_git(here, "status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.SubprocessError):
        return None, None


def _git(folder: Path, *words: str) -> str:
    done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, check=True, timeout=10)  # noqa: S603, S607
    return done.stdout.strip()
