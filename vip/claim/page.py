"""Page: what came out, as Markdown with a plot and a sheet of samples."""

from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from schemas.claim_config import KNOWN, ClaimConfig
from storage.store import ArtifactStore
from vip.claim.cost import Cost, costs_of
from vip.claim.plot import gains_plot
from vip.claim.run import Outcome
from vip.claim.verdicts import Line, figures, verdict_lines
from vip.evaluation.features import read_generated
from vip.report.words import setting_label

_SCALE = 2
_GAP = 4
_DISTANCES = ("frechet_distance", "kid", "inception_score", "inception_score_10", "diversity")


def write_page(
    store: ArtifactStore, config: ClaimConfig, outcomes: Sequence[Outcome], base_folder: Path, folder: Path
) -> Path:
    """Write ``claim.md``, ``claim-gains.svg`` and ``claim-samples.png`` to ``folder``.

    Returns:
        The page.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _sheet(store, config, outcomes).save(folder / "claim-samples.png", "PNG", optimize=True)
    lines = verdict_lines(store, config, outcomes)
    (folder / "claim-gains.svg").write_text(gains_plot(lines, config.against), "utf-8")
    costs = costs_of(config, base_folder)
    text = [
        "# The claim, put to the test",
        "",
        "Written by the run itself. Every arm starts from the same base and sees the same images and captions"
        f" for {config.train.steps} steps of {config.train.batch * config.train.accumulation}; trained arms run with"
        f" {config.seeds} seed{'s' if config.seeds > 1 else ''}. Exam:"
        f" {outcomes[0].evaluation.stats['images']} held-out images, {config.evaluate.steps} steps,"
        f" guidance {config.evaluate.guidance:g}. Captions: `{config.spec}`.",
        "",
        "FLOPs are counted for one forward pass of one sample; parameters are those beyond the UNet's; the seconds are"
        " wall time of one training on the machine of the run and say little where it was shared.",
        "",
        "| arm | what it is | MFLOPs | against plain | more parameters | training, s | checkpoints |",
        "|---|---|---|---|---|---|---|",
        *[_arm_row(arm, costs[arm], outcomes) for arm in config.arms],
        "",
    ]
    text += ["![gains](claim-gains.svg)", ""]
    for setting in config.evaluate.settings:
        text += _setting(store, config, outcomes, lines, setting)
    text += ["## Samples", "", "One row an image, one column an arm: " + ", ".join(config.arms) + ".", ""]
    text += ["![samples](claim-samples.png)", ""]
    (folder / "claim.md").write_text("\n".join(text), "utf-8")
    return folder / "claim.md"


def _arm_row(arm: str, cost: Cost, outcomes: Sequence[Outcome]) -> str:
    own = [outcome for outcome in outcomes if outcome.arm == arm]
    seconds = [float(outcome.checkpoint.stats.get("seconds", 0.0)) for outcome in own]
    digests = ", ".join(f"`{outcome.checkpoint.digest[:12]}`" for outcome in own)
    price = f"{cost.flops / 1e6:,.0f} | {cost.share:.3f} | {cost.parameters:,}"
    return f"| {arm} | {KNOWN[arm]} | {price} | {np.mean(seconds):.0f} | {digests} |"


def _setting(
    store: ArtifactStore, config: ClaimConfig, outcomes: Sequence[Outcome], lines: Sequence[Line], setting: str
) -> list[str]:
    text = [f"## {setting_label(setting)}", ""]
    text += [
        f"Gains are against `{config.against}`, above 0 = better, in pairs of images, each averaged over its seeds,"
        f" with {config.evaluate.confidence:.0%} bootstrap intervals over images; in brackets the gain of every seed.",
        "",
        "| metric | arm | value (each seed) | gain | interval | verdict |",
        "|---|---|---|---|---|---|",
    ]
    for line in lines:
        if line.setting != setting:
            continue
        values = ", ".join(f"{value:.3f}" for value in line.values)
        if line.gain is None:
            text.append(f"| {line.metric} | {line.arm} | {values} | | | |")
            continue
        each = ", ".join(f"{value:+.3f}" for value in line.seed_gains)
        interval = f"{line.low:+.3f} to {line.high:+.3f}" if line.low is not None else ""
        text.append(
            f"| {line.metric} | {line.arm} | {values} | {line.gain:+.3f} ({each}) | {interval} | {line.verdict} |"
        )
    text += ["", "| metric | " + " | ".join(config.arms) + " |", "|---|" + "---|" * len(config.arms)]
    for metric in _DISTANCES:
        found = figures(store, outcomes, metric, setting)
        if found:
            cells = [", ".join(f"{value:.4g}" for value in found.get(arm, [])) for arm in config.arms]
            text.append(f"| {metric} ({config.evaluate.network}) | " + " | ".join(cells) + " |")
    return [*text, ""]


def _sheet(store: ArtifactStore, config: ClaimConfig, outcomes: Sequence[Outcome], count: int = 8) -> Image.Image:
    """The first images of the exam, in the order of their keys, one column an arm, seed 0."""
    setting = config.evaluate.settings[0]
    columns = []
    for arm in config.arms:
        outcome = next(one for one in outcomes if one.arm == arm)
        samples = store.require(outcome.evaluation.inputs[f"samples/{setting}/0"])
        columns.append([pixels for _, pixels in islice(read_generated(store, samples), count)])
    height, width = columns[0][0].shape[:2]
    high, wide = height * _SCALE + _GAP, width * _SCALE + _GAP
    sheet = Image.new("RGB", (wide * len(columns) + _GAP, high * len(columns[0]) + _GAP), (245, 244, 242))
    for x, column in enumerate(columns):
        for y, pixels in enumerate(column):
            large = Image.fromarray(pixels).resize((width * _SCALE, height * _SCALE), Image.Resampling.NEAREST)
            sheet.paste(large, (x * wide + _GAP, y * high + _GAP))
    return sheet
