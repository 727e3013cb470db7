"""Local model folders: where a model lies, and the digest that says which model it is."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from schemas.canonical import canonical_json, fingerprint
from schemas.errors import VipError
from schemas.manifest import Manifest, Recipe
from storage.store import ArtifactStore, sha256_file

# What decides what a model answers. Anything else in a folder (cards, plots, caches) may change freely.
_DECIDES = {".safetensors", ".json", ".txt", ".model", ".jinja"}
_PICKLES = {".bin", ".pt", ".pth", ".ckpt", ".pkl"}
_NANO = {"captioner": "captioner", "base": "base", "probe": "probe"}


def nano_folder(part: str) -> Path:
    """The folder of a model of the nano family that ships with the package: captioner, base or probe."""
    return Path(__file__).resolve().parent.parent / "vip" / "nano" / "weights" / _NANO[part]


def find_model(name: str, nano_part: str, revision: str | None = None) -> Path:
    """The local folder of a model.

    Args:
        name: ``nano``, a local folder, or a hub id that is already in the local hub cache.
        nano_part: which of the nano family ``nano`` means here.
        revision: of a hub id; None = its default branch.

    Raises:
        VipError: where there is no such folder, or it holds weights only as pickle.
    """
    folder = nano_folder(nano_part) if name == "nano" else Path(name).expanduser()
    if not folder.is_dir():
        folder = _from_hub_cache(name, revision)
    files = [path for path in folder.rglob("*") if path.is_file()]
    if not any(path.suffix == ".safetensors" for path in files):
        pickled = next((path.name for path in files if path.suffix in _PICKLES), None)
        found = f"only {pickled}, which is pickle" if pickled else "no weights"
        raise VipError(f"model {name}: {folder} holds {found}", "give a folder with .safetensors files")
    return folder


def _from_hub_cache(name: str, revision: str | None) -> Path:
    if Path(name).is_absolute() or name.startswith(".") or name.count("/") != 1:
        raise VipError(f"model {name}: there is no such folder", "give 'nano', a local folder or a hub id")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        patterns = [f"*{suffix}" for suffix in sorted(_DECIDES)]
        return Path(snapshot_download(name, revision=revision, allow_patterns=patterns))
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError, ValueError) as error:  # the last: no id of the hub's
        raise VipError(
            f"model {name} is neither a local folder nor to be had from the hub ({type(error).__name__})",
            "download it first, or give the folder it lies in",
        ) from error


def model_files(folder: Path) -> dict[str, str]:
    """Relative path -> SHA-256 of every file that decides what the model answers, sorted by path."""
    return {
        path.relative_to(folder).as_posix(): sha256_file(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix in _DECIDES and not _hidden(path.relative_to(folder))
    }


def model_digest(folder: Path) -> str:
    """SHA-256 over the deciding files of a model folder, 64 hex digits: its revision, wherever it lies."""
    return fingerprint(model_files(folder))


def model_artifact(store: ArtifactStore, name: str, folder: Path) -> Manifest:
    """Record a model as an artifact: its files' hashes, not the files, which may be many gigabytes.

    Args:
        name: how the user calls it; recorded, but the digest decides.
        folder: as returned by :func:`find_model`.
    """
    files = model_files(folder)
    recipe = Recipe(kind="model", stage="model", params={"files": fingerprint(files)})

    def build(target: Path) -> dict[str, Any]:
        (target / "model.json").write_bytes(canonical_json({"files": files}))
        return {"name": name, "recorded": datetime.now(UTC).isoformat()}

    return store.build(recipe, build)[0]


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)
