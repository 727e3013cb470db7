"""From a name that a person gives to the artifact it means."""

from schemas.errors import VipError
from schemas.manifest import Kind, Manifest
from storage.refs import Refs
from storage.store import ArtifactStore


def find_artifact(store: ArtifactStore, kind: Kind, name: str, folder: str | None = None) -> Manifest:
    """The artifact that ``name`` means.

    Args:
        store: where it lies.
        kind: what it must be.
        name: a ref such as ``dataset/scenery``, its last part alone, or a unique prefix of a key or digest.
        folder: folder of refs for a bare name; the kind where None.

    Raises:
        VipError: where nothing, something of another kind, or more than one artifact is meant.
    """
    from vip.lineage.index import open_index
    from vip.lineage.resolve import resolve_artifact

    refs, folder = Refs(store.backend), folder or kind
    target = refs.get(f"{folder}/{name}")
    if target is not None and target.kind == kind:
        return store.require(target)
    index = open_index(store.backend.url)
    try:
        found = resolve_artifact(index, name, (kind,))
    except VipError as error:
        known = [ref for ref in refs.names() if ref.startswith(f"{folder}/")]
        hint = f"there are: {', '.join(known[:5])}" if known else f"this root has no {folder} yet"
        raise VipError(error.reason, hint) from error
    finally:
        index.close()
    manifest = store.get(kind, found["key"])
    if manifest is None:
        raise VipError(f"{kind} {name} was removed", "give another")
    return manifest
