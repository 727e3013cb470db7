"""Evaluate: one checkpoint in one exam, into a metrics table."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from schemas.evaluate_config import EvaluateConfig
from schemas.manifest import Manifest, Recipe
from schemas.region import params_of
from schemas.tables import IMAGE_METRICS, METRICS
from storage.store import ArtifactStore
from storage.tables import stream_table, write_table
from vip.evaluation.exam import ALONGSIDE, Exam, Item, read_exam, texts_of
from vip.evaluation.features import generated_features, real_features
from vip.evaluation.images import UNITS, Values, image_rows
from vip.evaluation.network import FeatureNetwork, label_of
from vip.evaluation.networks import load_network
from vip.evaluation.obedience import load_probe
from vip.evaluation.rows import REAL, UNPASTED, MetricRows
from vip.evaluation.sample import Progress, Sampler, make_samples
from vip.evaluation.scores import load_scorers, make_scores, read_scores
from vip.machine import machine

METRICS_TABLE = "metrics.parquet"
IMAGES_TABLE = "images.parquet"
CHUNK = 256
"""Images an artifact: what a killed exam loses at most, and what a changed image costs."""


def _silent(what: str, done: int, total: int) -> None:
    """Report nothing."""


def evaluate(
    store: ArtifactStore,
    config: EvaluateConfig,
    checkpoint: Manifest,
    dataset: Manifest,
    prompt_sets: Mapping[str, Manifest],
    progress: Progress = _silent,
) -> Manifest:
    """Sample, take features, measure; whatever already exists is found by its key.

    Args:
        store: where everything lies.
        config: the exam.
        checkpoint: the model under examination.
        dataset: whose images are continued.
        prompt_sets: see :func:`vip.evaluation.exam.read_exam`; what the settings use is pinned.
        progress: called with (what, done, total).

    Returns:
        An ``evaluation`` artifact with ``metrics.parquet`` (schema ``METRICS``) and ``images.parquet`` (schema
        ``IMAGE_METRICS``), which comparisons in pairs read.

    Raises:
        VipError: where captions are missing or fewer than two images are left.
    """
    exam = read_exam(store, config, dataset, prompt_sets)
    network = load_network(config.network, config.network_weights)
    probe = load_probe(config.probe) if config.probe else None
    scorers = load_scorers(config)
    sampler = Sampler(store, checkpoint)
    samples: dict[str, list[Manifest]] = {}
    features: dict[str, list[Manifest]] = {}
    scores: dict[str, dict[str, list[Manifest]]] = {name: {} for name in scorers}
    for setting in config.settings:
        texts = texts_of(exam, config, setting)
        samples[setting] = [
            make_samples(store, config, sampler, setting, chunk, texts, progress) for chunk in _chunks(exam.items)
        ]
        features[setting] = [generated_features(store, network, made, progress) for made in samples[setting]]
        for name, scorer in scorers.items():
            scores[name][setting] = [
                make_scores(store, scorer, made, exam.items, progress) for made in samples[setting]
            ]
    if config.unpasted:
        for name, made in samples.items():
            features[name + UNPASTED] = [generated_features(store, network, one, progress, "unpasted") for one in made]
    real = [real_features(store, network, chunk, progress) for chunk in _chunks(exam.items)]
    if config.floor and len(exam.spare) > 1:
        features[REAL] = [real_features(store, network, chunk, progress) for chunk in _chunks(exam.spare)]

    seeds = _further_seeds(store, config, exam, network, sampler, progress)

    view, region = config.geometry
    recipe = Recipe(
        kind="evaluation",
        stage="evaluate",
        inputs={
            "checkpoint": checkpoint.ref,
            "dataset": dataset.ref,
            **{f"prompts/{name}": prompt_sets[name].ref for name in config.needs},
            **{name: given.ref for name, given in prompt_sets.items() if name.startswith(ALONGSIDE)},
            **_numbered("samples", samples),
            **_numbered("features", {"real": real, **features, **seeds}),
            **{role: ref for name, made in scores.items() for role, ref in _numbered(f"scores/{name}", made).items()},
        },
        params={
            **config.params(),
            "view": view.model_dump(mode="json"),
            "region": params_of(region),
            "network": {"name": network.name, "digest": network.digest},
            "probe": probe.digest if probe else None,
            # An exam without scorers keeps the key that it had before there were any.
            **({"scorers": {name: [one.name, one.digest] for name, one in scorers.items()}} if scorers else {}),
        },
    )

    def build(folder: Path) -> dict[str, Any]:
        metrics = MetricRows(recipe.key, config, checkpoint, prompt_sets, network)
        values = Values()

        def of_images() -> Iterator[dict[str, Any]]:
            truth = exam.texts.get("oracle", {})
            for number, setting in enumerate(config.settings):
                progress("measuring images", number, len(config.settings))
                yield from image_rows(store, setting, exam.items, samples[setting], probe, truth)
                for name in scorers:
                    yield from read_scores(store, scores[name][setting])

        images = stream_table(folder / IMAGES_TABLE, values.passing(of_images()), IMAGE_METRICS)
        for number, (setting, made) in enumerate(features.items()):
            progress("measuring", number, len(features))
            metrics.distances(store, setting, real, made, paired=setting != REAL)
            if setting.endswith(UNPASTED):
                continue
            metrics.means(setting, values, UNITS)
            for scorer in scorers.values():
                metrics.means(setting, values, scorer.units, label_of(scorer.name, scorer.digest))
        if seeds:
            metrics.diversity(store, config.settings[0], [features[config.settings[0]], *seeds.values()])
        progress("measuring", len(features), len(features))
        rows = {METRICS_TABLE: write_table(folder / METRICS_TABLE, metrics.rows, METRICS), IMAGES_TABLE: images}
        told = {"images": len(exam.items), "without_caption": exam.without_caption, "machine": machine()}
        return {"rows": rows, **told}

    return store.build(recipe, build)[0]


Part = tuple[str, int]
"""A setting, or ``REAL``, and the number of a chunk of images."""


def exam_parts(
    store: ArtifactStore, config: EvaluateConfig, dataset: Manifest, prompt_sets: Mapping[str, Manifest]
) -> list[Part]:
    """What of an exam can be made anywhere and in any order: the pictures and features of each chunk."""
    chunks = range(len(_chunks(read_exam(store, config, dataset, prompt_sets).items)))
    return [(setting, number) for setting in (*config.settings, REAL) for number in chunks]


def make_parts(
    store: ArtifactStore,
    config: EvaluateConfig,
    checkpoint: Manifest,
    dataset: Manifest,
    prompt_sets: Mapping[str, Manifest],
    parts: Sequence[Part],
    progress: Progress = _silent,
) -> None:
    """Make some parts of an exam; :func:`evaluate` finds them by their keys."""
    exam = read_exam(store, config, dataset, prompt_sets)
    network, scorers = load_network(config.network, config.network_weights), load_scorers(config)
    sampler, chunks = Sampler(store, checkpoint), _chunks(exam.items)
    for setting, number in parts:
        if setting == REAL:
            real_features(store, network, chunks[number], progress)
            continue
        texts = texts_of(exam, config, setting)
        made = make_samples(store, config, sampler, setting, chunks[number], texts, progress)
        generated_features(store, network, made, progress)
        if config.unpasted:
            generated_features(store, network, made, progress, "unpasted")
        for scorer in scorers.values():
            make_scores(store, scorer, made, exam.items, progress)


def _further_seeds(
    store: ArtifactStore,
    config: EvaluateConfig,
    exam: Exam,
    network: FeatureNetwork,
    sampler: Sampler,
    progress: Progress,
) -> dict[str, list[Manifest]]:
    """Features of the first setting's pictures under further seeds."""
    setting = config.settings[0]
    texts = texts_of(exam, config, setting)
    found = {}
    for number in range(1, config.diversity + 1):
        other = config.model_copy(update={"seed": config.seed + number})
        found[f"{setting}:seed+{number}"] = [
            generated_features(
                store, network, make_samples(store, other, sampler, setting, chunk, texts, progress), progress
            )
            for chunk in _chunks(exam.items)
        ]
    return found


def _chunks(items: Sequence[Item]) -> list[Sequence[Item]]:
    return [items[start : start + CHUNK] for start in range(0, len(items), CHUNK)]


def _numbered(what: str, manifests: Mapping[str, Sequence[Manifest]]) -> dict[str, Any]:
    return {f"{what}/{name}/{n}": made.ref for name, many in manifests.items() for n, made in enumerate(many)}
