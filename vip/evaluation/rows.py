"""The rows of a metrics table, each under an id that its exam and its name decide."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from schemas.canonical import fingerprint
from schemas.evaluate_config import PROMPTS_OF, EvaluateConfig
from schemas.manifest import Manifest
from storage.store import ArtifactStore
from vip.evaluation.features import FeatureRows, blocks
from vip.evaluation.frechet import Moments, frechet_distance
from vip.evaluation.images import Values
from vip.evaluation.inception_score import inception_score, inception_score_of_parts
from vip.evaluation.interval import Estimate, mean_of
from vip.evaluation.kid import kernel_distance
from vip.evaluation.network import FeatureNetwork, label_of

_ENOUGH_FOR_PARTS = 100
"""Images from which on the Inception Score over ten parts is given too; below, a part is a handful of images."""

REAL = "control:real"
"""The setting of rows that compare real images with other real images."""


UNPASTED = ":unpasted"
"""Follows a setting in the roles of the features of pictures whose known part was not pasted back."""


class MetricRows:
    """Collects the rows of one evaluation.

    Args:
        key: of the evaluation artifact.
        config: the exam.
        checkpoint: the model under examination.
        prompt_sets: kind of prompt -> caption set.
        network: whose features are compared.
    """

    def __init__(
        self,
        key: str,
        config: EvaluateConfig,
        checkpoint: Manifest,
        prompt_sets: Mapping[str, Manifest],
        network: FeatureNetwork,
    ) -> None:
        self.key = key
        self.config = config
        self.checkpoint = checkpoint.digest
        self.prompt_sets = {name: manifest.digest for name, manifest in prompt_sets.items()}
        self.network = label_of(network.name, network.digest)
        self.rows: list[dict[str, Any]] = []

    def add(self, metric: str, setting: str, estimate: Estimate, unit: str, network: str | None = None) -> None:
        """One figure; ``network`` is the label of what judged it, where a network did."""
        view, region = self.config.geometry
        name = {"metric": metric, "setting": setting, "network": network}
        row = {
            "metric_id": fingerprint({"evaluation": self.key, **name})[:32],
            **name,
            **estimate._asdict(),
            "checkpoint": "" if setting == REAL else self.checkpoint,
            "caption_set": self.prompt_sets.get(PROMPTS_OF.get(setting, ""), ""),
            "view": view.id,
            "region": region.id,
            "unit": unit,
        }
        self.rows.append(row)

    def distances(
        self, store: ArtifactStore, setting: str, real: Sequence[Manifest], other: Sequence[Manifest], paired: bool
    ) -> None:
        """Frechet and kernel distance and the score of the logits, as far as both sides have the same number.

        Args:
            store: where the features lie.
            setting: what ``other`` was made under, followed by ``UNPASTED`` where nothing was pasted back, which goes
                into the names of the metrics; ``REAL`` for other real images.
            real, other: features artifacts.
            paired: row i on both sides is the same image, so that the bootstrap draws images for both at once.
        """
        n = min(_count(real), _count(other))
        form = "_unpasted" if setting.endswith(UNPASTED) else ""
        setting = setting.removesuffix(UNPASTED)
        one, two = (Moments.of(_first(blocks(store, many), n)) for many in (real, other))
        point = Estimate(frechet_distance(one, two), None, None, n)
        self.add(f"frechet_distance{form}", setting, point, "squared feature distance", self.network)
        kernel = kernel_distance(
            FeatureRows(store, real, n),
            FeatureRows(store, other, n),
            resamples=self.config.resamples,
            confidence=self.config.confidence,
            seed=self.config.seed,
            paired=paired,
        )
        self.add(f"kid{form}", setting, kernel, "squared MMD", self.network)
        score = Estimate(inception_score(_first(blocks(store, other, "logits"), n)), None, None, n)
        self.add(f"inception_score{form}", setting, score, "effective classes", self.network)
        if n >= _ENOUGH_FOR_PARTS:
            mean, _ = inception_score_of_parts(_first(blocks(store, other, "logits"), n), n)
            point = Estimate(mean, None, None, n)
            self.add(f"inception_score_10{form}", setting, point, "effective classes", self.network)

    def means(self, setting: str, values: Values, units: Mapping[str, str], network: str | None = None) -> None:
        """The mean of every metric that is measured on each image of its own, with an interval over images.

        Args:
            setting: what the pictures were made under.
            values: of every image.
            units: metric -> unit; the metrics to take.
            network: label of what judged them, where a network did.
        """
        config = self.config
        for metric, unit in units.items():
            found = values.of(setting, metric)
            if len(found):
                mean = mean_of(found, config.resamples, config.confidence, config.seed)
                self.add(metric, setting, mean, unit, network)

    def diversity(self, store: ArtifactStore, setting: str, seeds: Sequence[Sequence[Manifest]]) -> None:
        """How far apart the pictures of one image lie under different seeds, in features.

        Args:
            store: where the features lie.
            setting: what they were made under.
            seeds: for each seed the features artifacts, of the same images in the same order.
        """
        values = []
        for parts in zip(*seeds, strict=True):
            features = [np.concatenate(list(blocks(store, [part]))).astype(np.float64) for part in parts]
            gaps = [np.linalg.norm(one - other, axis=1) for one, other in combinations(features, 2)]
            values.append(np.mean(gaps, axis=0))
        config = self.config
        mean = mean_of(np.concatenate(values), config.resamples, config.confidence, config.seed)
        self.add("diversity", setting, mean, "feature distance between seeds", self.network)


def _count(manifests: Sequence[Manifest]) -> int:
    return sum(int(manifest.stats["images"]) for manifest in manifests)


def _first(pieces: Any, n: int) -> Any:
    for piece in pieces:
        if n <= 0:
            return
        yield piece[:n]
        n -= len(piece)
