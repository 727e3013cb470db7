"""The root of a million captions on which ``python -m bench lineage`` asks its questions."""

import tempfile
from pathlib import Path
from typing import Any

from bench._lineage_root import Synthetic, add_checkpoint, summary
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
    words,
)
from schemas.canonical import fingerprint
from schemas.manifest import Manifest, Recipe
from schemas.spec import CaptionSpec
from schemas.tables import CAPTIONS, METRICS, NAMES, SAMPLES
from storage.answers import Answers
from storage.shards import ShardWriter
from storage.store import ArtifactStore
from storage.tables import write_table


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
    asked = root.sets["keywords"].digest

    def write(folder: Path) -> dict[str, Any]:
        rows = [metric_row(checkpoint.digest, asked, f"{exam}/{number}", number) for number in range(figures)]
        return {"rows": {"metrics.parquet": write_table(folder / "metrics.parquet", rows, METRICS)}}

    root.evaluations.append(root.store.build(recipe, write)[0])
