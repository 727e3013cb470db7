"""Manifest: what an artifact is, what made it and from what."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from schemas.canonical import fingerprint

Kind = Literal[
    "shard",
    "dataset",
    "captions",
    "caption_set",
    "gate",
    "model",
    "latents",
    "embeddings",
    "checkpoint",
    "samples",
    "features",
    "evaluation",
    "promotion",
    "report",
    "suppression",
    "takedown",
]

Sha256 = Field(pattern="^[0-9a-f]{64}$")


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ArtifactRef(_Record):
    """A pointer to one artifact: its recipe (``key``) and what came out (``digest``)."""

    kind: Kind
    key: str = Sha256
    digest: str = Sha256


class Output(_Record):
    """One file of an artifact: SHA-256, size in bytes, and the number of rows where it is a table or a shard."""

    sha256: str = Sha256
    bytes: int = Field(ge=0)
    rows: int | None = None


class Producer(_Record):
    """The code that made an artifact."""

    stage: str
    stage_version: int
    commit: str | None = None
    dirty: bool | None = None
    packages: dict[str, str] = {}


class Run(_Record):
    """When and under which run an artifact was made; never part of a key or a digest."""

    id: str
    started: datetime
    finished: datetime


class Recipe(_Record):
    """Everything that decides an artifact, known before the work starts.

    Attributes:
        kind: what is made.
        stage: name of the function that makes it.
        stage_version: raised when the meaning of an output changes.
        inputs: role -> artifact. Only the digests enter the key.
        params: every value that can change the output, fully resolved, and none that cannot.
    """

    kind: Kind
    stage: str
    stage_version: int = 1
    inputs: dict[str, ArtifactRef] = {}
    params: dict[str, Any] = {}

    @property
    def key(self) -> str:
        """SHA-256 of the canonical JSON of kind, stage version, input digests and params."""
        return fingerprint(
            {
                "kind": self.kind,
                "stage_version": self.stage_version,
                "inputs": {role: ref.digest for role, ref in self.inputs.items()},
                "params": self.params,
            }
        )


class Manifest(_Record):
    """The record that makes a set of files an artifact."""

    kind: Kind
    key: str = Sha256
    digest: str = Sha256
    inputs: dict[str, ArtifactRef]
    params: dict[str, Any]
    outputs: dict[str, Output]
    producer: Producer
    run: Run
    stats: dict[str, Any] = {}

    @property
    def ref(self) -> ArtifactRef:
        """The pointer that other manifests use for this artifact."""
        return ArtifactRef(kind=self.kind, key=self.key, digest=self.digest)

    @property
    def recipe(self) -> Recipe:
        """What it was made by; its key must be this artifact's."""
        return Recipe(
            kind=self.kind,
            stage=self.producer.stage,
            stage_version=self.producer.stage_version,
            inputs=self.inputs,
            params=self.params,
        )


class Publication(_Record):
    """Written last, and once: it makes the artifact exist and holds the hash of its manifest."""

    kind: Kind
    key: str = Sha256
    digest: str = Sha256
    manifest_sha256: str = Sha256


class Tombstone(_Record):
    """An artifact that was removed on purpose: known, explained, and not done.

    Attributes:
        manifest: the record of the artifact, where that went too; after a takedown it stays in its place.
    """

    kind: Kind
    key: str = Sha256
    digest: str = Sha256
    reason: str
    removed: datetime
    inputs: dict[str, ArtifactRef] = {}
    manifest: Manifest | None = None


class RefEntry(_Record):
    """One number in the log of a moving name."""

    name: str
    number: int = Field(ge=1)
    target: ArtifactRef
    at: datetime
    note: str = ""


def digest_of(outputs: dict[str, Output]) -> str:
    """SHA-256 over the paths, hashes and sizes of the outputs."""
    return fingerprint({path: [output.sha256, output.bytes] for path, output in outputs.items()})
