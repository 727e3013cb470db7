"""Shard images: the original bytes of a shard's samples."""

import hashlib

from schemas.errors import VipError
from schemas.manifest import Manifest
from schemas.tables import SAMPLES
from storage.store import ArtifactStore
from storage.tables import read_table


class ShardImages:
    """Original bytes of a shard's samples, by their place in the tar; nothing else of it is read."""

    def __init__(self, store: ArtifactStore, shard: Manifest) -> None:
        table = read_table(store.read(shard, "samples.parquet"), SAMPLES, ["image_sha256", "offset", "bytes"])
        columns = (table.column(name).to_pylist() for name in ("image_sha256", "offset", "bytes"))
        self._places = {key: (offset, size) for key, offset, size in zip(*columns, strict=True)}
        self._name = store.path(shard, "samples.tar")
        self._file = store.backend.open(self._name)

    def read(self, image_sha256: str) -> bytes:
        """The original bytes of one image.

        Raises:
            VipError: where they are not what their key says.
        """
        offset, size = self._places[image_sha256]
        self._file.seek(offset)
        data = self._file.read(size)
        if hashlib.sha256(data).hexdigest() != image_sha256:
            raise VipError(f"{self._name}: image {image_sha256[:12]} is not what was stored", "run `vip audit verify`")
        return data

    def close(self) -> None:
        """Let go of the tar."""
        self._file.close()
