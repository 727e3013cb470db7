"""From a name that a person gives to the artifact it means."""

from schemas.errors import VipError
from schemas.manifest import Kind, Manifest
from storage.refs import Refs
from storage.store import ArtifactStore


def find_artifact(store: ArtifactStore, kind: Kind, name: str) -> Manifest:
    """The artifact that ``name`` means.

    Args:
        store: where it lies.
        kind: what it must be.
        name: a ref such as ``dataset/scenery``, its last part alone, or a unique prefix of a key or digest.

    Raises:
        VipError: where nothing, something of another kind, or more than one artifact is meant.
    """
    from vip.lineage.index import open_index
    from vip.lineage.resolve import ref_folder, resolve_artifact

    # Most names are refs, for which no index need be opened.
    target = Refs(store.backend).get(f"{ref_folder(kind)}/{name}")
    if target is not None and target.kind == kind:
        return store.require(target)
    index = open_index(store.backend.url)
    try:
        found = resolve_artifact(index, name, (kind,))
    finally:
        index.close()
    manifest = store.get(kind, found["key"])
    if manifest is None:
        raise VipError(f"{kind} {name} was removed", "give another")
    return manifest
