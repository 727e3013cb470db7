"""Roots made up for tests and benchmarks of lineage, written as the stages write them."""

import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench._lineage_rows import (
    BANK,
    answer_row,
    bits_of,
    caption_row,
    make_spec,
    metric_row,
    picture,
    sample_row,
    sha,
    split_of,
    words,
)
from schemas.canonical import canonical_json, fingerprint
from schemas.manifest import Manifest, Recipe
from schemas.spec import CaptionSpec
from schemas.tables import CAPTION_REJECTS, CAPTIONS, GATE_CHECKS, METRICS, NAMES, SAMPLES, SHARDS, SOURCE_REJECTS
from storage.answers import Answers
from storage.refs import Refs
from storage.shards import ShardWriter
from storage.store import ArtifactStore
from storage.tables import write_table


@dataclass
class Synthetic:
    """A root and what was put into it."""

    store: ArtifactStore
    shards: dict[str, list[Manifest]] = field(default_factory=dict)
    datasets: dict[str, Manifest] = field(default_factory=dict)
    sets: dict[str, Manifest] = field(default_factory=dict)
    captions: dict[str, list[Manifest]] = field(default_factory=dict)
    checkpoints: list[Manifest] = field(default_factory=list)
    evaluations: list[Manifest] = field(default_factory=list)

    @property
    def refs(self) -> Refs:
        return Refs(self.store.backend)


def add_dataset(root: Synthetic, name: str, images: dict[str, bytes], bits: int = 1) -> Manifest:
    """Shards and a dataset of ``images`` (name -> bytes), and the ref ``dataset/<name>``."""
    members: dict[str, dict[str, bytes]] = {}
    for data in images.values():
        members.setdefault(bits_of(sha(data), bits), {})[sha(data)] = data
    made = {}
    for prefix, held in sorted(members.items()):
        recipe = Recipe(
            kind="shard",
            stage="build_shard",
            params={
                "prefix": prefix,
                "members": fingerprint([[key, split_of(key)] for key in sorted(held)]),
                "format": 1,
            },
        )

        def write(folder: Path, held: dict[str, bytes] = held) -> dict[str, Any]:
            rows = []
            with ShardWriter(folder / "samples.tar") as tar:
                for key in sorted(held):
                    member, offset = tar.write(key, "png", held[key], {"image_sha256": key})
                    rows.append(sample_row(key, len(held[key]), member, offset))
            write_table(folder / "samples.parquet", rows, SAMPLES)
            return {"rows": {"samples.tar": len(rows), "samples.parquet": len(rows)}, **_splits(held)}

        made[prefix] = root.store.build(recipe, write)[0]
    recipe = Recipe(
        kind="dataset",
        stage="build_dataset",
        inputs={f"shard/{prefix}": shard.ref for prefix, shard in made.items()},
        params={"bits": bits, "names": fingerprint({label: sha(data) for label, data in images.items()})},
    )

    def write_dataset(folder: Path) -> dict[str, Any]:
        names = [
            {
                "image_sha256": sha(data),
                "name": label,
                "shard": bits_of(sha(data), bits),
                "split": split_of(sha(data)),
            }
            for label, data in sorted(images.items())
        ]
        write_table(folder / "names.parquet", names, NAMES)
        write_table(folder / "rejects.parquet", [], SOURCE_REJECTS)
        shards = [{"shard": prefix, "digest": one.digest, **_splits(members[prefix])} for prefix, one in made.items()]
        write_table(folder / "shards.parquet", shards, SHARDS)
        return {"rows": {"names.parquet": len(names)}}

    root.shards[name] = list(made.values())
    root.datasets[name] = root.store.build(recipe, write_dataset)[0]
    root.refs.set(f"dataset/{name}", root.datasets[name].ref)
    return root.datasets[name]


def _splits(held: Iterable[str]) -> dict[str, int]:
    splits = [split_of(key) for key in held]
    return {"samples": len(splits), **{split: splits.count(split) for split in ("train", "test")}}


def add_captions(
    root: Synthetic, name: str, dataset: str, spec: CaptionSpec, say: dict[str, str] | None = None
) -> Manifest:
    """Answers, captions and a caption set of one dataset; ``say`` overrides the words on single images.

    An image whose word is empty is rejected.
    """
    say = say or {}
    answers = Answers(root.store.backend, spec.answers_id)
    answers.describe(spec.asked)
    made: dict[str, Manifest] = {}
    for shard in root.shards[dataset]:
        prefix = shard.params["prefix"]
        recipe = Recipe(
            kind="captions",
            stage="caption_shard",
            inputs={"shard": shard.ref},
            params={
                "spec": spec.params,
                "bank": BANK.model_dump(mode="json"),
                "round": 0,
            },
        )

        def write(folder: Path, shard: Manifest = shard, prefix: str = prefix) -> dict[str, Any]:
            from schemas.tables import SAMPLES as columns
            from storage.tables import read_table

            samples = read_table(root.store.read(shard, "samples.parquet"), columns)
            good, bad, said = [], [], []
            for key in samples.column("image_sha256").to_pylist():
                request_id = fingerprint([spec.answers_id, key, 0])
                text = say.get(key, words(f"{spec.spec_id}{key}"))
                said.append(answer_row(key, request_id, text))
                if text:
                    good.append(caption_row(key, spec.spec_id, text, request_id))
                else:
                    row = caption_row(key, spec.spec_id, "; ", request_id)
                    bad.append(
                        {field: row[field] for field in CAPTION_REJECTS.names if field in row}
                        | {"reason": "empty", "detail": "the answer is empty", "raw": [""]}
                    )
            with tempfile.TemporaryDirectory() as scratch:
                answers.publish(prefix, said, Path(scratch))
            return {
                "rows": {
                    "captions.parquet": write_table(folder / "captions.parquet", good, CAPTIONS),
                    "rejects.parquet": write_table(folder / "rejects.parquet", bad, CAPTION_REJECTS),
                },
                "spec": spec.name,
                "spec_id": spec.spec_id,
                "answers": spec.answers_id,
                "segments": [segment.sha256 for segment in answers.segments(prefix)],
                "captions": len(good),
                "rejected": len(bad),
            }

        made[prefix] = root.store.build(recipe, write)[0]
    recipe = Recipe(
        kind="caption_set",
        stage="caption_set",
        inputs={f"captions/{prefix}": part.ref for prefix, part in made.items()},
        params={"spec_id": spec.spec_id, "bank": BANK.model_dump(mode="json"), "round": 0},
    )
    root.captions[name] = list(made.values())
    root.sets[name] = root.store.build(recipe, lambda folder: summary(folder, made))[0]
    root.refs.set(f"captions/{name}", root.sets[name].ref)
    return root.sets[name]


def summary(folder: Path, parts: dict[str, Manifest]) -> dict[str, Any]:
    # The digests make two sets of different captions differ in their own digest, and so in every later key.
    (folder / "summary.json").write_bytes(canonical_json({prefix: part.digest for prefix, part in parts.items()}))
    return {}


def add_gate(root: Synthetic, captions: str, passed: bool = True) -> Manifest:
    recipe = Recipe(
        kind="gate", stage="gate", inputs={"caption_set": root.sets[captions].ref}, params={"rejected": 0.1}
    )

    def write(folder: Path) -> dict[str, Any]:
        rows = [{"check": "rejected", "value": 0.0 if passed else 0.5, "limit": 0.1, "passed": passed, "worst": []}]
        return {"rows": {"checks.parquet": write_table(folder / "checks.parquet", rows, GATE_CHECKS)}, "passed": passed}

    return root.store.build(recipe, write)[0]


def add_model(root: Synthetic) -> Manifest:
    recipe = Recipe(kind="model", stage="import_model", params={"digest": "cd" * 32})

    def write(folder: Path) -> dict[str, Any]:
        (folder / "weights.bin").write_bytes(b"base weights")
        return {"name": "plain-base"}

    return root.store.build(recipe, write)[0]


def add_checkpoint(
    root: Synthetic, captions: str, dataset: str, seed: int = 0, stats: dict[str, Any] | None = None
) -> Manifest:
    inputs = {"base": add_model(root).ref, "caption_set": root.sets[captions].ref}
    inputs |= {f"shard/{shard.params['prefix']}": shard.ref for shard in root.shards[dataset]}
    inputs |= {f"captions/{number:04d}": part.ref for number, part in enumerate(root.captions[captions])}
    recipe = Recipe(kind="checkpoint", stage="train", inputs=inputs, params={"steps": 10, "seed": seed})

    def write(folder: Path) -> dict[str, Any]:
        (folder / "pipeline").mkdir()
        (folder / "pipeline" / "weights.bin").write_bytes(f"weights {seed}".encode())
        return stats or {}

    root.checkpoints.append(root.store.build(recipe, write)[0])
    return root.checkpoints[-1]


def add_evaluation(
    root: Synthetic, checkpoint: Manifest, captions: str, dataset: str, figures: int = 2, split: str = "test"
) -> Manifest:
    inputs = {"checkpoint": checkpoint.ref, "caption_set": root.sets[captions].ref}
    inputs |= {f"shard/{shard.params['prefix']}": shard.ref for shard in root.shards[dataset]}
    recipe = Recipe(
        kind="evaluation",
        stage="evaluate",
        inputs=inputs,
        params={"sampler": "ddim", "steps": 30, "seeds": [0], "n": figures, "split": split},
    )

    def write(folder: Path) -> dict[str, Any]:
        rows = [
            metric_row(checkpoint.digest, root.sets[captions].digest, str(number), number) for number in range(figures)
        ]
        return {"rows": {"metrics.parquet": write_table(folder / "metrics.parquet", rows, METRICS)}}

    root.evaluations.append(root.store.build(recipe, write)[0])
    return root.evaluations[-1]


def small_root(place: Path | str, images: int = 12) -> Synthetic:
    """One dataset of a few images in two shards, captioned, gated, trained on and measured."""
    root = Synthetic(ArtifactStore(str(place), run_id="run-1"))
    add_dataset(root, "scenes", {f"scene-{number}.png": picture(number) for number in range(images)})
    add_captions(root, "keywords", "scenes", make_spec(), say={sha(picture(3)): ""})
    add_gate(root, "keywords")
    checkpoint = add_checkpoint(root, "keywords", "scenes")
    add_evaluation(root, checkpoint, "keywords", "scenes")
    root.refs.set("latest", checkpoint.ref)
    root.refs.set("promoted", checkpoint.ref, note="first")
    return root
