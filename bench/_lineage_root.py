"""Roots made up for tests and benchmarks: the same seed, the same artifacts; written as the stages write them."""

import hashlib
import random
import tempfile
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from schemas.bank import Bank
from schemas.canonical import canonical_json, fingerprint
from schemas.manifest import Manifest, Recipe
from schemas.region import CentreRegion
from schemas.spec import CaptionSpec, ModelIdentity
from schemas.tables import CAPTION_REJECTS, CAPTIONS, GATE_CHECKS, METRICS, NAMES, SAMPLES, SOURCE_REJECTS
from storage.answers import Answers
from storage.refs import Refs
from storage.shards import ShardWriter
from storage.store import ArtifactStore
from storage.tables import write_table

WHEN = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)
BANK = Bank()
VIEW, REGION = BANK.view, BANK.regions[0]
WORDS = ("wolf", "ball", "house", "tree", "rock", "sea", "hill", "cloud", "bird", "road", "snow", "field")


def make_spec(name: str = "keywords", prompt: str = "Describe centre and surrounding of {region}.") -> CaptionSpec:
    return CaptionSpec(
        name=name,
        strategy="joint",
        model=ModelIdentity(id="nano", revision="ab" * 32, server="vllm 0.32.0", dtype="float32"),
        templates={"joint": prompt},
    )


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


def picture(number: int) -> bytes:
    """Bytes that stand for an image; nothing here decodes them."""
    return f"picture {number} ".encode() * 8


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def split_of(key: str) -> str:
    return "test" if int(key[:4], 16) % 5 == 0 else "train"


def bits_of(key: str, bits: int) -> str:
    return f"{int(key, 16):0256b}"[:bits]


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
            return {"rows": {"samples.tar": len(rows), "samples.parquet": len(rows)}, "samples": len(rows)}

        made[prefix] = root.store.build(recipe, write)[0]
    recipe = Recipe(
        kind="dataset",
        stage="build_dataset",
        inputs={f"shard/{prefix}": shard.ref for prefix, shard in made.items()},
        params={"bits": bits, "names": fingerprint({label: sha(data) for label, data in images.items()})},
    )

    def write_dataset(folder: Path) -> dict[str, Any]:
        names = [
            {"image_sha256": sha(data), "name": label, "shard": bits_of(sha(data), bits)}
            for label, data in sorted(images.items())
        ]
        write_table(folder / "names.parquet", names, NAMES)
        write_table(folder / "rejects.parquet", [], SOURCE_REJECTS)
        return {"rows": {"names.parquet": len(names)}}

    root.shards[name] = list(made.values())
    root.datasets[name] = root.store.build(recipe, write_dataset)[0]
    root.refs.set(f"dataset/{name}", root.datasets[name].ref)
    return root.datasets[name]


def sample_row(key: str, size: int, member: str, offset: int | None) -> dict[str, Any]:
    return {
        "image_sha256": key,
        "split": split_of(key),
        "format": "PNG",
        "width": 64,
        "height": 64,
        "orientation": 1,
        "mode": "RGB",
        "bytes": size,
        "member": member,
        "offset": offset,
    }


def caption_row(key: str, spec_id: str, text: str, request_id: str, region: CentreRegion = REGION) -> dict[str, Any]:  # type: ignore[assignment]
    centre, surrounding = text.split("; ")
    return {
        "caption_id": fingerprint([key, VIEW.id, region.id, spec_id])[:32],
        "image_sha256": key,
        "view": VIEW.id,
        "region": region.id,
        "view_json": canonical_json(VIEW.model_dump(mode="json")).decode(),
        "region_json": canonical_json(region.model_dump(mode="json")).decode(),
        "spec_id": spec_id,
        "centre": centre,
        "surrounding": surrounding,
        "total": text,
        "tokens_centre": 4,
        "tokens_surrounding": 5,
        "tokens_total": 7,
        "cut": "",
        "leak": [],
        "request_ids": [request_id],
        "draws": [0],
    }


def words(seed: str) -> str:
    pick = random.Random(seed)
    return f"{pick.choice(WORDS)}; {pick.choice(WORDS)}, {pick.choice(WORDS)}"


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


def answer_row(key: str, request_id: str, text: str) -> dict[str, Any]:
    return {
        "request_id": request_id,
        "image_sha256": key,
        "view": VIEW.id,
        "region": REGION.id,
        "part": "joint",
        "draw": 0,
        "text": f"raw: {text}",
        "finish_reason": "stop",
        "prompt_tokens": 20,
        "completion_tokens": 6,
        "attempts": 1,
        "seconds": 0.25,
        "answered_at": WHEN,
        "model_id": "nano@abababababababab",
        "endpoint": "http://127.0.0.1:8000/v1",
        "server": "vllm 0.32.0",
    }


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
        return {}

    return root.store.build(recipe, write)[0]


def add_checkpoint(root: Synthetic, captions: str, dataset: str, seed: int = 0) -> Manifest:
    inputs = {"base": add_model(root).ref, "caption_set": root.sets[captions].ref}
    inputs |= {f"shard/{shard.params['prefix']}": shard.ref for shard in root.shards[dataset]}
    recipe = Recipe(kind="checkpoint", stage="train", inputs=inputs, params={"steps": 10, "seed": seed})

    def write(folder: Path) -> dict[str, Any]:
        (folder / "pipeline").mkdir()
        (folder / "pipeline" / "weights.bin").write_bytes(f"weights {seed}".encode())
        return {}

    root.checkpoints.append(root.store.build(recipe, write)[0])
    return root.checkpoints[-1]


def add_evaluation(root: Synthetic, checkpoint: Manifest, captions: str, dataset: str, figures: int = 2) -> Manifest:
    inputs = {"checkpoint": checkpoint.ref, "caption_set": root.sets[captions].ref}
    inputs |= {f"shard/{shard.params['prefix']}": shard.ref for shard in root.shards[dataset]}
    recipe = Recipe(
        kind="evaluation",
        stage="evaluate",
        inputs=inputs,
        params={"sampler": "ddim", "steps": 30, "seeds": [0], "n": figures},
    )

    def write(folder: Path) -> dict[str, Any]:
        rows = [metric_row(root, checkpoint, captions, str(number), number) for number in range(figures)]
        return {"rows": {"metrics.parquet": write_table(folder / "metrics.parquet", rows, METRICS)}}

    root.evaluations.append(root.store.build(recipe, write)[0])
    return root.evaluations[-1]


def metric_row(root: Synthetic, checkpoint: Manifest, captions: str, name: str, number: int) -> dict[str, Any]:
    return {
        "metric_id": fingerprint([checkpoint.digest, root.sets[captions].digest, name])[:32],
        "metric": ("frechet_distance", "kid", "psnr_known_unpasted")[number % 3],
        "value": 20.0 + number,
        "n": 100,
        "setting": "oracle",
        "checkpoint": checkpoint.digest,
        "caption_set": root.sets[captions].digest,
        "view": VIEW.id,
        "region": REGION.id,
        "network": "efficientnet-lite0 1234",
        "unit": "squared feature distance",
    }


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


def large_root(place: Path | str, shards: int, rows: int, checkpoints: int, metrics: int) -> Synthetic:
    """A root of ``shards * rows`` captions; only the last shard's tar holds bytes, the others are empty files.

    Args:
        place: an empty folder.
        shards, rows: number of shards, and of images in each.
        checkpoints: number of checkpoints, each trained on every shard and measured ``metrics`` times in 10 exams.
        metrics: figures of each checkpoint.
    """
    root = Synthetic(ArtifactStore(str(place), run_id="run-1"))
    spec = make_spec()
    root.shards["scenes"], root.captions["keywords"] = [], []
    for number in range(shards):
        _large_shard(root, spec, number, rows, whole=number == shards - 1)
    _join_large(root, spec)
    for seed in range(checkpoints):
        checkpoint = add_checkpoint(root, "keywords", "scenes", seed=seed)
        for exam in range(10):
            _exam(root, checkpoint, exam, metrics // 10)
    root.refs.set("latest", root.checkpoints[-1].ref)
    return root


def one_more_shard(root: Synthetic, number: int, rows: int = 1000) -> None:
    """A shard and its captions, published after the index was built."""
    _large_shard(root, make_spec(), number, rows, whole=False)


def _large_shard(root: Synthetic, spec: CaptionSpec, number: int, rows: int, whole: bool) -> None:
    prefix = f"{number:010b}"
    tail = (sha(f"{number}/{row}".encode()) for row in range(rows))
    keys = sorted(f"{int(prefix.ljust(12, '0')[:12], 2):03x}{key[3:]}" for key in tail)
    data = {}
    if whole:
        data = {sha(picture(row)): picture(row) for row in range(rows)}
        keys = sorted(data)
    recipe = Recipe(
        kind="shard", stage="build_shard", params={"prefix": prefix, "members": fingerprint(keys), "format": 1}
    )

    def write(folder: Path) -> dict[str, Any]:
        samples = []
        with ShardWriter(folder / "samples.tar") as tar:
            for key in keys:
                member, offset = tar.write(key, "png", data[key], {}) if whole else (f"{key}.png", 0)
                samples.append(sample_row(key, len(data.get(key, b"")), member, offset))
        write_table(folder / "samples.parquet", samples, SAMPLES)
        return {"rows": {"samples.tar": rows, "samples.parquet": rows}, "samples": rows}

    shard = root.store.build(recipe, write)[0]
    answers = Answers(root.store.backend, spec.answers_id)
    recipe = Recipe(
        kind="captions",
        stage="caption_shard",
        inputs={"shard": shard.ref},
        params={"spec": spec.params, "bank": BANK.model_dump(mode="json"), "round": 0},
    )

    def caption(folder: Path) -> dict[str, Any]:
        said, good = [], []
        for key in keys:
            request_id, text = fingerprint([spec.answers_id, key, 0]), words(key)
            said.append(answer_row(key, request_id, text))
            good.append(caption_row(key, spec.spec_id, text, request_id))
        with tempfile.TemporaryDirectory() as scratch:
            if whole:
                answers.describe(spec.asked)
                for bits in sorted({bits_of(key, 3) for key in keys}):
                    answers.publish(
                        bits, [row for row in said if bits_of(row["image_sha256"], 3) == bits], Path(scratch)
                    )
            else:
                answers.publish(prefix, said, Path(scratch))
        count = write_table(folder / "captions.parquet", good, CAPTIONS)
        return {"rows": {"captions.parquet": count}, "spec": spec.name, "spec_id": spec.spec_id}

    root.shards["scenes"].append(shard)
    root.captions["keywords"].append(root.store.build(recipe, caption)[0])


def _join_large(root: Synthetic, spec: CaptionSpec) -> None:
    shards = {f"shard/{shard.params['prefix']}": shard.ref for shard in root.shards["scenes"]}
    recipe = Recipe(kind="dataset", stage="build_dataset", inputs=shards, params={"bits": 10})

    def names(folder: Path) -> dict[str, Any]:
        return {"rows": {"names.parquet": write_table(folder / "names.parquet", [], NAMES)}}

    root.datasets["scenes"] = root.store.build(recipe, names)[0]
    root.refs.set("dataset/scenes", root.datasets["scenes"].ref)
    parts = {f"captions/{number:04d}": made.ref for number, made in enumerate(root.captions["keywords"])}
    recipe = Recipe(kind="caption_set", stage="caption_set", inputs=parts, params={"spec_id": spec.spec_id, "round": 0})
    held = {str(number): made for number, made in enumerate(root.captions["keywords"])}
    root.sets["keywords"] = root.store.build(recipe, lambda folder: summary(folder, held))[0]
    root.refs.set("captions/keywords", root.sets["keywords"].ref)


def _exam(root: Synthetic, checkpoint: Manifest, exam: int, figures: int) -> None:
    inputs = {
        "checkpoint": checkpoint.ref,
        "dataset": root.datasets["scenes"].ref,
        "prompts/oracle": root.sets["keywords"].ref,
    }
    recipe = Recipe(kind="evaluation", stage="evaluate", inputs=inputs, params={"exam": exam})

    def write(folder: Path) -> dict[str, Any]:
        rows = [metric_row(root, checkpoint, "keywords", f"{exam}/{number}", number) for number in range(figures)]
        return {"rows": {"metrics.parquet": write_table(folder / "metrics.parquet", rows, METRICS)}}

    root.evaluations.append(root.store.build(recipe, write)[0])
