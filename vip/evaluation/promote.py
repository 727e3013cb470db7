"""Promote: whether a checkpoint may take the place of the promoted one, as an artifact with its reasons."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from schemas.approval import Approval
from schemas.canonical import canonical_json
from schemas.manifest import Manifest, Recipe
from schemas.promotion import PromotionRules
from schemas.tables import COMPARISON
from storage.store import ArtifactStore
from storage.tables import write_table
from vip.evaluation.compare import compare

COMPARISON_TABLE = "comparison.parquet"
APPROVAL_FILE = "approval.json"
ROLLED_BACK = "it was promoted before and rolled back; `vip ref set` promotes it by hand"
_ENOUGH = ("better", "not worse")


def judge_promotion(
    store: ArtifactStore,
    evaluation: Manifest,
    incumbent: Manifest | None,
    rules: PromotionRules,
    rolled_back: bool = False,
    agree: Callable[[list[str]], Approval] | None = None,
) -> Manifest:
    """Compare a checkpoint with the promoted one in the same exam, image by image.

    Args:
        store: where everything lies.
        evaluation: of the new checkpoint.
        incumbent: evaluation of the promoted checkpoint in the same exam; None where nothing was promoted before, or
            nothing that still stands: the new one is then promoted without a comparison.
        rules: what it must show.
        rolled_back: the new one was promoted once and a person went back; it is not promoted again by itself.
        agree: asks a person, given the reasons, where the rules are kept; None where no person is to be asked. What the
            person said is kept, so that one decision is asked for once.

    Returns:
        A ``promotion`` artifact with ``comparison.parquet`` (schema ``COMPARISON``, all metrics and settings) and,
        where a person was asked, ``approval.json``; its stats hold ``promoted`` and ``reasons``, one a rule.

    Raises:
        VipError: where the exams differ.
    """
    inputs = {"evaluation": evaluation.ref}
    if incumbent is not None:
        inputs["incumbent"] = incumbent.ref
    params = {"rules": rules.model_dump(mode="json"), "rolled_back": rolled_back}
    if agree is not None:
        params["approval"] = True
    recipe = Recipe(kind="promotion", stage="judge_promotion", inputs=inputs, params=params)

    def build(folder: Path) -> dict[str, Any]:
        rows = [] if incumbent is None else compare(store, incumbent, evaluation, rules.margins)
        count = write_table(folder / COMPARISON_TABLE, rows, COMPARISON)
        promoted, reasons = (True, ["nothing was promoted before"]) if incumbent is None else decide(rows, rules)
        if rolled_back:
            promoted, reasons = False, [ROLLED_BACK, *reasons]
        if promoted and agree is not None:
            said = agree(reasons)
            (folder / APPROVAL_FILE).write_bytes(canonical_json(said.model_dump(mode="json")))
            promoted, reasons = said.approve, [*reasons, said.sentence]
        return {"rows": {COMPARISON_TABLE: count}, "promoted": promoted, "reasons": reasons}

    return store.build(recipe, build)[0]


def decide(rows: list[dict[str, Any]], rules: PromotionRules) -> tuple[bool, list[str]]:
    """Whether every rule is kept, and a reason for each.

    Args:
        rows: of ``COMPARISON``, the promoted checkpoint first.
        rules: metrics that must be better or not worse. A metric that was not measured keeps no rule.
    """
    found = {row["metric"]: row for row in rows if row["setting"] == rules.setting}
    promoted, reasons = True, []
    for metric in rules.metrics:
        row = found.get(metric)
        if row is None:
            promoted = False
            reasons.append(f"{metric} ({rules.setting}) was not measured in both")
            continue
        promoted &= row["verdict"] in _ENOUGH
        interval = "" if row["low"] is None else f", gain {row['low']:.4g} to {row['high']:.4g}"
        reasons.append(
            f"{metric} ({rules.setting}) {row['verdict']}: {row['first']:.4g} to {row['second']:.4g}{interval}, "
            f"margin {row['margin']:g}, {row['n']} images"
        )
    return promoted, reasons
