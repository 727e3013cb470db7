"""Removal: erasing artifacts so that what is gone stays known. The only module that takes objects away.

A *takedown* leaves ``tombstones/<kind>/<key>.json`` and the manifest in its place; its key can never be published
again. A *collection* leaves a numbered ``collected/<kind>/<key>/<number>.json`` that holds the whole manifest and
takes everything else, so that the same recipe may be built again when it is wanted.
"""

import contextlib
import json
import time
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import chain

from schemas.canonical import canonical_json
from schemas.manifest import ArtifactRef, Manifest, Tombstone
from storage.backend import Backend
from storage.layout import artifact_folder
from storage.store import ArtifactStore


def take_down(store: ArtifactStore, ref: ArtifactRef, reason: str) -> Tombstone:
    """Erase the files of an artifact behind a tombstone, or finish an erasure that was interrupted.

    Its manifest stays and explains it.
    """
    stone = store.tombstone(ref.kind, ref.key)
    if stone is None:
        stone = _stone(store.require(ref), reason)
        path = f"tombstones/{ref.kind}/{ref.key}.json"
        store.backend.put_if_absent(path, canonical_json(stone.model_dump(mode="json")))
    # A writer who came second left its own bytes beside those that were published.
    kept = f"{artifact_folder(stone.kind, stone.key, stone.digest)}/manifest.json"
    for path in list(store.backend.list(f"artifacts/{ref.kind}/{ref.key}", unfinished=True)):
        if path != kept:
            store.backend.remove(path)
    store.drop_copies(ref)
    return stone


def tombstones(store: ArtifactStore) -> Iterator[Tombstone]:
    """The record of every takedown's erasure.

    Raises:
        VipError: where one cannot be read.
    """
    for path in store.backend.list("tombstones"):
        _, *name = path.removesuffix(".json").split("/")
        stone = store.tombstone(*name) if len(name) == 2 else None  # type: ignore[arg-type]  # kind and key
        if stone is not None:
            yield stone


def _stone(manifest: Manifest, reason: str) -> Tombstone:
    return Tombstone(
        kind=manifest.kind,
        key=manifest.key,
        digest=manifest.digest,
        reason=reason,
        removed=datetime.now(UTC),
        inputs=manifest.inputs,
    )


def collect(store: ArtifactStore, manifest: Manifest, reason: str) -> Tombstone:
    """Take an artifact away, publication first, so that a crash leaves rubbish and never a lie."""
    stone = _stone(manifest, reason).model_copy(update={"manifest": manifest})
    number = 1 + len(list(store.backend.list(f"collected/{manifest.kind}/{manifest.key}")))
    path = f"collected/{manifest.kind}/{manifest.key}/{number:08d}.json"
    store.backend.put_if_absent(path, canonical_json(stone.model_dump(mode="json")))
    store.backend.remove(f"published/{manifest.kind}/{manifest.key}.json")
    folder = artifact_folder(manifest.kind, manifest.key, manifest.digest)
    for file in list(store.backend.list(folder)):
        store.backend.remove(file)
    _withdraw_if_hollow(store.backend, manifest.kind, manifest.key, manifest.digest[:16])
    _prune(store.backend, folder)
    store.drop_copies(manifest.ref)
    return stone


def _withdraw_if_hollow(backend: Backend, kind: str, key: str, digest: str) -> None:
    """Where a run published the artifact again while its files went, take that publication back: it would be a lie."""
    if _published(backend, kind, key) == digest and not _whole(backend, artifact_folder(kind, key, digest)):
        backend.remove(f"published/{kind}/{key}.json")


def _published(backend: Backend, kind: str, key: str) -> str | None:
    """The digest that was published, as folders are named by it; None where none was."""
    try:
        return json.loads(backend.get(f"published/{kind}/{key}.json"))["digest"][:16]
    except FileNotFoundError:
        return None


def _whole(backend: Backend, folder: str) -> bool:
    """Whether every file of a manifest is there, the manifest itself included."""
    try:
        manifest = json.loads(backend.get(f"{folder}/manifest.json"))
    except FileNotFoundError:
        return False
    return all(backend.exists(f"{folder}/{name}") for name in manifest["outputs"])


def collected(backend: Backend) -> dict[tuple[str, str], str]:
    """(kind, key) of everything that was ever collected -> path of its newest record."""
    newest = {}
    for path in backend.list("collected"):
        parts = path.split("/")
        if len(parts) == 4 and path.endswith(".json"):
            newest[parts[1], parts[2]] = path
    return newest


_RECORDS = ("answers", "collected", "published", "refs", "tombstones")
"""Folders beside ``artifacts`` whose objects all stay, but not the drafts of writes that were killed."""


def leftovers(backend: Backend, older_than: float) -> Iterator[tuple[str, int]]:
    """Files of artifacts that were never published, drafts of any object, and claims of former runs.

    An interrupted write leaves such files, and so does a writer of other bytes who came second to the same key.

    A claim that is taken away too soon costs at most that something is asked twice.

    Args:
        backend: the root.
        older_than: seconds since they were last written; younger ones may belong to a write that goes on.

    Yields:
        (path, bytes).
    """
    published = {path.removeprefix("published/").removesuffix(".json") for path in backend.list("published")}
    files = [path for path in backend.list("artifacts", unfinished=True) if path.count("/") > 3]
    folders: dict[str, set[str]] = defaultdict(set)
    for path in files:
        _, kind, key, digest, _ = path.split("/", 4)
        folders[f"{kind}/{key}"].add(digest)
    # Which of them was published has to be read only where there are several.
    spoken_for = {
        f"artifacts/{name}/{digest}"
        for name in published & folders.keys()
        for digest in ({_published(backend, *name.split("/"))} if len(folders[name]) > 1 else folders[name])
    }
    rubbish = [path for path in files if "/.tmp-" in path or "/".join(path.split("/")[:4]) not in spoken_for]
    # Only a local disk has drafts: elsewhere an object appears whole, and listing all answers would be for nothing.
    drafts = (
        path
        for folder in (_RECORDS if backend.is_local else ())
        for path in backend.list(folder, unfinished=True)
        if "/.tmp-" in path
    )
    now = time.time()
    for path in chain(rubbish, drafts, backend.list("claims", unfinished=True)):
        with contextlib.suppress(FileNotFoundError):  # its writer took it away
            written = backend.modified(path)
            if written is not None and now - written >= older_than:
                yield path, backend.size(path)


def remove_leftover(backend: Backend, path: str) -> None:
    """Take one file away that no publication speaks of.

    A run may publish it meanwhile: then it stays, or, where it was gone by then, the publication is taken back.
    """
    if not path.startswith("artifacts/"):
        backend.remove(path)
        _prune(backend, path.rsplit("/", 1)[0])
        return
    _, kind, key, digest, _ = path.split("/", 4)
    if _published(backend, kind, key) == digest and "/.tmp-" not in path:
        return
    backend.remove(path)
    _withdraw_if_hollow(backend, kind, key, digest)
    _prune(backend, path.rsplit("/", 1)[0])


def _prune(backend: Backend, folder: str) -> None:
    """Remove the empty folders that are left on a local disk."""
    place = backend.local_path(folder)
    if place is None or not place.is_dir():
        return
    for inner in sorted((path for path in place.rglob("*") if path.is_dir()), reverse=True):
        with contextlib.suppress(OSError):  # not empty
            inner.rmdir()
    with contextlib.suppress(OSError):
        place.rmdir()
        place.parent.rmdir()
