"""Make report: the page of one evaluation and the run that led to it."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.manifest import ArtifactRef, Manifest, Recipe
from schemas.run_summary import RunSummary
from schemas.tables import METRICS
from storage.store import ArtifactStore
from storage.tables import read_table
from vip.evaluation.evaluate import METRICS_TABLE
from vip.report import words
from vip.report.page import (
    exam_sentence,
    lineage_line,
    loss_charts,
    matrix,
    pixelated,
    render,
    stage_lines,
)
from vip.report.pictures import examples

PAGE = "report.html"
_CAUTION = (
    "Small print gives 95% bootstrap intervals over images. A Fréchet distance has none, because its bootstrap is "
    "biased; it falls as images are added, so compare it with the floor of as many real images and with "
    "nothing that has another n. A Fréchet distance carries its feature network's name; only Inception v3's is FID."
)


def make_report(
    store: ArtifactStore,
    evaluation: Manifest,
    run: RunSummary | None = None,
    title: str = "Outpainting, end to end",
    pictures: int = 6,
) -> Manifest:
    """Write the page.

    Args:
        store: where everything lies.
        evaluation: what is reported; checkpoint, captions, dataset and samples are found from it.
        run: stages and facts of the run that asks for the page.
        title: of the page.
        pictures: images shown.

    Returns:
        A ``report`` artifact with ``report.html``: no script, nothing loaded from elsewhere.
    """
    run = run or RunSummary()
    recipe = Recipe(
        kind="report",
        stage="make_report",
        inputs={"evaluation": evaluation.ref},
        params={"run": run.model_dump(mode="json"), "title": title, "pictures": pictures},
    )

    def build(folder: Path) -> dict[str, Any]:
        (folder / PAGE).write_text(render(_values(store, evaluation, run, title, pictures)), "utf-8")
        return {}

    return store.build(recipe, build)[0]


def _values(store: ArtifactStore, evaluation: Manifest, run: RunSummary, title: str, pictures: int) -> dict[str, Any]:
    checkpoint = store.require(evaluation.inputs["checkpoint"])
    dataset = store.require(evaluation.inputs["dataset"])
    prompts = _of(store, evaluation, "prompts/")
    samples = {
        role.split("/")[1]: store.require(ref)
        for role, ref in evaluation.inputs.items()
        if role.startswith("samples/") and role.endswith("/0")
    }
    rows = read_table(store.read(evaluation, METRICS_TABLE), METRICS).to_pylist()
    # Manifests come back with their inputs sorted; the exam's own order reads better.
    samples = {setting: samples[setting] for setting in evaluation.params["settings"]}
    shown = examples(store, samples, pictures)
    settings = [setting for setting in words.SETTINGS if any(row["setting"] == setting for row in rows)]
    facts = _facts(evaluation, dataset, checkpoint, prompts, run)
    return {
        "title": title,
        "lead": _lead(evaluation, checkpoint),
        "facts": facts,
        "examples": shown,
        "pixelated": pixelated(shown, evaluation.params["view"]["width"]),
        "exam": exam_sentence(evaluation),
        "settings": settings,
        "matrix": matrix(rows, settings),
        "caution": _CAUTION,
        "charts": loss_charts(_losses(store, checkpoint)),
        "stages": stage_lines(run),
        "lineage": _lineage(store, evaluation, checkpoint, dataset, prompts),
        "rows": [
            {
                "label": words.metric_label(row),
                "setting": row["setting"],
                "value": words.number(row["metric"], row["value"]),
                "metric_id": row["metric_id"],
            }
            for row in rows
        ],
        "caption_id": next((made.caption_id for example in shown for made in example.made if made.caption_id), ""),
        "footer": f"Evaluation {evaluation.key[:12]}, made in {words.duration(_seconds(evaluation))}.",
    }


def _facts(
    evaluation: Manifest, dataset: Manifest, checkpoint: Manifest, prompts: dict[str, Manifest], run: RunSummary
) -> list[tuple[str, str]]:
    """Label and value; a fact that a stage did not count is left out."""
    counted = (
        ("Images", dataset.stats.get("samples")),
        ("Rejected files", dataset.stats.get("rejected")),
        ("Training steps", checkpoint.stats.get("steps")),
        ("Images examined", evaluation.stats.get("images")),
    )
    facts = [(label, words.count(int(value))) for label, value in counted if value is not None]
    written = [manifest.stats["captions"] for manifest in prompts.values() if "captions" in manifest.stats]
    if written:
        facts.insert(2, ("Captions", words.count(sum(written))))
        facts.insert(3, ("Rejected captions", words.count(sum(m.stats.get("rejected", 0) for m in prompts.values()))))
    labels = {label for label, _ in facts}
    facts += [fact for fact in run.facts.items() if fact[0] not in labels]
    if run.stages:
        facts.append(("Time of this run", words.duration(sum(stage.seconds for stage in run.stages))))
    return facts


def _lead(evaluation: Manifest, checkpoint: Manifest) -> str:
    steps = checkpoint.stats.get("steps")
    trained = f", trained for {words.count(int(steps))} steps" if steps else ""
    return (
        f"Checkpoint {checkpoint.digest[:12]}{trained}, continued {words.count(evaluation.stats['images'])} images "
        "that it had not seen, in each of the settings below."
        if evaluation.params["split"] == "test"
        else f"Checkpoint {checkpoint.digest[:12]}{trained}, on images of its own training split."
    )


def _lineage(
    store: ArtifactStore, evaluation: Manifest, checkpoint: Manifest, dataset: Manifest, prompts: dict[str, Manifest]
) -> list[dict[str, str]]:
    network = evaluation.params["network"]
    lines = [lineage_line("Evaluation", evaluation, f"{network['name']} {network['digest'][:12]}")]
    lines.append(lineage_line("Checkpoint", checkpoint))
    for role, ref in checkpoint.inputs.items():
        if not role.startswith(("shard/", "captions/")):
            lines.append(lineage_line(f"Checkpoint's {role}", store.require(ref), _spec(store.require(ref))))
    for name, manifest in prompts.items():
        lines.append(lineage_line(f"Prompt set, {words.setting_label(name).lower()}", manifest, _spec(manifest)))
    lines.append(lineage_line("Dataset", dataset))
    return lines


def _spec(manifest: Manifest) -> str:
    """Which spec and which model wrote the captions of a caption set."""
    spec = manifest.params.get("spec_id")
    if not spec:
        return ""
    model = manifest.stats.get("spec_params", {}).get("model", {})
    named = f"spec {manifest.stats.get('spec', '')} {spec[:12]}".replace("  ", " ")
    return f"{named}, model {model['id']} {model.get('revision', '')[:12]}".rstrip() if model else named


def _of(store: ArtifactStore, manifest: Manifest, prefix: str) -> dict[str, Manifest]:
    found: dict[str, ArtifactRef] = {
        role.removeprefix(prefix): ref for role, ref in manifest.inputs.items() if role.startswith(prefix)
    }
    return {name: store.require(ref) for name, ref in found.items()}


def _losses(store: ArtifactStore, checkpoint: Manifest) -> pa.Table | None:
    name = next((name for name in checkpoint.outputs if name.endswith("losses.parquet")), None)
    return pq.read_table(pa.BufferReader(store.read(checkpoint, name))) if name else None


def _seconds(manifest: Manifest) -> float:
    return (manifest.run.finished - manifest.run.started).total_seconds()
