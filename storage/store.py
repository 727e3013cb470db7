"""The artifact store: immutable, named by what made them, published last."""

import contextlib
import hashlib
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from schemas.canonical import canonical_json, sha256_hex
from schemas.errors import VipError
from schemas.manifest import ArtifactRef, Kind, Manifest, Output, Publication, Recipe, Run, Tombstone, digest_of
from storage.backend import Backend
from storage.layout import artifact_folder
from storage.producer import producer_of
from storage.scratch import scratch_folder

M = TypeVar("M", Publication, Manifest, Tombstone)

_TRIES = 5  # of a publication that a collection beside it undoes

Build = Callable[[Path], dict[str, Any]]
"""Writes the files of an artifact into the folder it is given and returns the stats."""


class ArtifactStore:
    """Artifacts under one root.

    Layout: ``artifacts/<kind>/<key>/<digest>/<file>`` with ``manifest.json`` beside the files, then
    ``published/<kind>/<key>.json`` last. Without the publication there is no artifact, so that a crash leaves
    rubbish and never a lie; the first publication of a key wins.
    """

    def __init__(self, root: str | Path, run_id: str = "manual") -> None:
        self.backend = Backend(str(root))
        self.run_id = run_id

    def find(self, recipe: Recipe) -> Manifest | None:
        """The artifact that ``recipe`` names, or None where it has yet to be made (or was removed on purpose)."""
        return self.get(recipe.kind, recipe.key)

    def get(self, kind: Kind, key: str) -> Manifest | None:
        """The artifact of that kind and key, or None.

        Raises:
            VipError: where it was published but its manifest is missing or changed.
        """
        try:
            record = self.backend.get(_publication_path(kind, key))
        except FileNotFoundError:
            return None
        if self.tombstone(kind, key) is not None:
            return None
        publication = _parse(Publication, record, _publication_path(kind, key))
        path = f"{artifact_folder(kind, key, publication.digest)}/manifest.json"
        try:
            data = self.backend.get(path)
        except FileNotFoundError:
            raise VipError(f"{path} is missing although it was published", "run `vip audit verify`") from None
        if sha256_hex(data) != publication.manifest_sha256:
            raise VipError(f"{path} is not what was published", "run `vip audit verify`")
        return _parse(Manifest, data, path)

    def require(self, ref: ArtifactRef) -> Manifest:
        """The artifact behind ``ref``.

        Raises:
            VipError: where it is gone.
        """
        manifest = self.get(ref.kind, ref.key)
        if manifest is None:
            stone = self.tombstone(ref.kind, ref.key)
            why = f"was removed: {stone.reason}" if stone else "is not in this root"
            raise VipError(f"{ref.kind} {ref.key[:12]} {why}", "build it again, or give another --root")
        return manifest

    def build(self, recipe: Recipe, build: Build) -> tuple[Manifest, bool]:
        """Find the artifact of ``recipe`` or make it.

        Returns:
            The manifest, and whether it was made now (False: it was found).
        """
        found = self.find(recipe)
        if found is not None:
            return found, False
        started = datetime.now(UTC)
        with tempfile.TemporaryDirectory(prefix="vip-") as folder:
            stats = build(Path(folder))
            return self.publish(recipe, Path(folder), stats, started), True

    def publish(self, recipe: Recipe, folder: Path, stats: dict[str, Any], started: datetime) -> Manifest:
        """Store the files of ``folder`` as the artifact of ``recipe``.

        ``stats["rows"]`` may map a file to its number of rows. Where another writer was first, its artifact is
        returned and ours is left as rubbish for gc.
        """
        stats = dict(stats)
        rows: dict[str, int] = stats.pop("rows", {})
        outputs = {}
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            name = file.relative_to(folder).as_posix()
            outputs[name] = Output(sha256=sha256_file(file), bytes=file.stat().st_size, rows=rows.get(name))
        digest = digest_of(outputs)
        place = artifact_folder(recipe.kind, recipe.key, digest)
        manifest = Manifest(
            kind=recipe.kind,
            key=recipe.key,
            digest=digest,
            inputs=recipe.inputs,
            params=recipe.params,
            outputs=outputs,
            producer=producer_of(recipe),
            run=Run(id=self.run_id, started=started, finished=datetime.now(UTC)),
            stats=stats,
        )
        files: dict[str, bytes | Path] = {name: folder / name for name in outputs}
        files["manifest.json"] = canonical_json(manifest.model_dump(mode="json"))
        for _ in range(_TRIES):
            if self._put(recipe, digest, {f"{place}/{name}": data for name, data in files.items()}):
                standing = self.get(recipe.kind, recipe.key)
                if standing is not None:
                    return standing
            if self.tombstone(recipe.kind, recipe.key) is not None:
                # Taken down while it was made: what was put back beside the erasure goes as well.
                for name in outputs:
                    self.backend.remove(f"{place}/{name}")
                raise VipError(
                    f"{recipe.kind} {recipe.key[:12]} was removed on purpose and cannot be published again",
                    "change a parameter or an input",
                )
        raise VipError(
            f"{recipe.kind} {recipe.key[:12]} is collected as fast as it is made", "run again when gc is over"
        )

    def _put(self, recipe: Recipe, digest: str, files: dict[str, bytes | Path]) -> bool:
        """Put the files and publish them; False where gc took some of them meanwhile, so that they must be put again.

        A file that stood there may be what gc is just collecting, and one that was put takes gc for a leftover until
        it is published. So all are looked at after the publication: gc looks for a publication after its last removal,
        and one of both sees the other.
        """
        folder = artifact_folder(recipe.kind, recipe.key, digest)
        for path, data in files.items():
            self.backend.put_if_absent(path, data)
        try:
            # Another writer with the same bytes may have put its manifest first: publish the one that stands there.
            published = self.backend.get(f"{folder}/manifest.json")
        except FileNotFoundError:
            return False
        publication = Publication(
            kind=recipe.kind, key=recipe.key, digest=digest, manifest_sha256=sha256_hex(published)
        )
        where, record = _publication_path(recipe.kind, recipe.key), canonical_json(publication.model_dump(mode="json"))
        self.backend.put_if_absent(where, record)
        if files.keys() <= set(self.backend.list(folder)):
            return True
        with contextlib.suppress(FileNotFoundError):
            if self.backend.get(where) == record:  # it names a manifest that is gone
                self.backend.remove(where)
        return False

    def list(self, kind: Kind) -> Iterator[Manifest]:
        """Every artifact of a kind, oldest key first."""
        for path in self.backend.list(f"published/{kind}"):
            manifest = self.get(kind, Path(path).stem)
            if manifest is not None:
                yield manifest

    def path(self, manifest: Manifest, name: str) -> str:
        """Where a file of an artifact lies, relative to the root.

        Raises:
            VipError: where the artifact has no such file.
        """
        if name not in manifest.outputs:
            raise VipError(f"{manifest.kind} {manifest.key[:12]} has no file {name}", "run `vip audit verify`")
        return f"{artifact_folder(manifest.kind, manifest.key, manifest.digest)}/{name}"

    def read(self, manifest: Manifest, name: str) -> bytes:
        """The bytes of one file of an artifact.

        Raises:
            VipError: where it is gone although its artifact was published.
        """
        path = self.path(manifest, name)
        try:
            return self.backend.get(path)
        except FileNotFoundError:
            raise VipError(f"{path} is missing although it was published", "run `vip audit verify`") from None

    def place(self, manifest: Manifest, name: str) -> str:
        """A local path or URL of a file of an artifact, for whoever reads it as a stream or in another process."""
        return self.backend.place(self.path(manifest, name))

    def local(self, manifest: Manifest) -> Path:
        """A local folder with the files of an artifact: the store's own where it is local, else a checked copy.

        Raises:
            VipError: where a copied file is not what its manifest says.
        """
        place = artifact_folder(manifest.kind, manifest.key, manifest.digest)
        own = self.backend.local_path(place)
        if own is not None:
            return own
        target = self._copies(manifest.ref)
        for name, output in manifest.outputs.items():
            file = target / name
            if file.exists() and file.stat().st_size == output.bytes:
                continue
            file.parent.mkdir(parents=True, exist_ok=True)
            scratch = file.with_name(f".tmp-{uuid.uuid4().hex}")
            try:
                with self.backend.open(f"{place}/{name}") as source, scratch.open("wb") as sink:
                    shutil.copyfileobj(source, sink, 8 << 20)
                if sha256_file(scratch) != output.sha256:
                    raise VipError(f"{place}/{name} is not what its manifest says", "run `vip audit verify`")
                scratch.replace(file)
            finally:
                scratch.unlink(missing_ok=True)
        return target

    def drop_copies(self, ref: ArtifactRef) -> None:
        """Delete what :meth:`local` copied of an artifact to this machine."""
        if not self.backend.is_local:
            shutil.rmtree(self._copies(ref), ignore_errors=True)

    def _copies(self, ref: ArtifactRef) -> Path:
        return scratch_folder(self.backend) / "copies" / ref.kind / ref.digest

    def tombstone(self, kind: Kind, key: str) -> Tombstone | None:
        """The record of a removal, or None."""
        path = f"tombstones/{kind}/{key}.json"
        try:
            return _parse(Tombstone, self.backend.get(path), path)
        except FileNotFoundError:
            return None


def sha256_file(path: Path) -> str:
    """SHA-256 of a local file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _publication_path(kind: str, key: str) -> str:
    return f"published/{kind}/{key}.json"


def _parse(model: type[M], data: bytes, path: str) -> M:
    try:
        return model.model_validate_json(data)
    except ValidationError as error:
        raise VipError(f"{path} cannot be read: {error.errors()[0]['msg']}", "run `vip audit verify`") from error
