"""Gate: checks of a caption set, with the worst rows, as an artifact that training asks for."""

import heapq
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from schemas.canonical import sha256_hex
from schemas.errors import VipError
from schemas.gate import GateThresholds
from schemas.manifest import Manifest, Recipe
from schemas.tables import CAPTION_REJECTS, CAPTIONS, GATE_CHECKS
from storage.store import ArtifactStore
from storage.tables import read_table, write_table
from vip.captioning.leakage import content_words
from vip.captioning.parse import Reason

STAGE_VERSION = 2
"""Raised when the same captions are counted otherwise."""


@dataclass(frozen=True)
class Verdict:
    """Whether a caption set may be trained on, and why not."""

    passed: bool
    reasons: tuple[str, ...] = ()

    def require(self) -> None:
        """Stop where the gate failed.

        Raises:
            VipError: with every reason.
        """
        if not self.passed:
            raise VipError(
                f"the captions failed the gate: {'; '.join(self.reasons)}",
                "look at the rows it names, mend the spec or raise its thresholds, and run again",
            )


def run_gate(
    store: ArtifactStore, caption_set: Manifest, thresholds: GateThresholds | None = None
) -> tuple[Manifest, Verdict]:
    """Check a caption set; found by its key where it was checked by these thresholds before.

    Returns:
        The ``gate`` artifact and the verdict.
    """
    limits = thresholds or GateThresholds()
    recipe = Recipe(
        kind="gate",
        stage="run_gate",
        stage_version=STAGE_VERSION,
        inputs={"caption_set": caption_set.ref},
        params={"thresholds": limits.model_dump(mode="json")},
    )

    def build(folder: Path) -> dict[str, Any]:
        checks = check_captions(store, caption_set, limits)
        rows = write_table(folder / "checks.parquet", checks, GATE_CHECKS)
        return {"rows": {"checks.parquet": rows}, "passed": all(check["passed"] for check in checks)}

    manifest, _ = store.build(recipe, build)
    return manifest, read_verdict(store, manifest)


def read_verdict(store: ArtifactStore, gate: Manifest) -> Verdict:
    """The verdict of a gate that was run."""
    checks = read_table(store.read(gate, "checks.parquet"), GATE_CHECKS).to_pylist()
    reasons = tuple(
        f"{check['check']} {check['value']:.1%} is above {check['limit']:.1%}"
        + (f" (such as {', '.join(caption[:12] for caption in check['worst'][:3])})" if check["worst"] else "")
        for check in checks
        if not check["passed"]
    )
    return Verdict(not reasons, reasons)


@dataclass
class _Check:
    """Counts the rows that fail one check and keeps the worst of them."""

    keep: int
    count: int = 0
    worst: list[tuple[float, str]] = field(default_factory=list)

    def add(self, caption_id: str, badness: float) -> None:
        """Note a failing row; the larger ``badness``, the worse."""
        self.count += 1
        entry = (badness, caption_id)
        if len(self.worst) < self.keep:
            heapq.heappush(self.worst, entry)
        elif self.keep:
            heapq.heappushpop(self.worst, entry)

    def names(self) -> list[str]:
        """Caption ids, worst first; equal ones by name."""
        return [name for _, name in sorted(self.worst, key=lambda entry: (-entry[0], entry[1]))]


_COLUMNS = ["caption_id", "image_sha256", "centre", "surrounding", "total", "tokens_total", "cut"]


def check_captions(store: ArtifactStore, caption_set: Manifest, limits: GateThresholds) -> list[dict[str, Any]]:
    """Evaluate every check, shard by shard.

    Returns:
        Rows of the schema GATE_CHECKS.
    """
    names = ("rejected", "refused", "cut", "short", "repeated", "duplicated", "leaking")
    checks = {name: _Check(limits.worst) for name in names}
    # A text -> the image that has it and its captions of it; nothing once another image has it too.
    holders: dict[str, tuple[str, ...]] = {}
    repeats: Counter[str] = Counter()
    captions = rejects = 0
    for role, ref in sorted(caption_set.inputs.items()):
        if not role.startswith("captions/"):
            continue
        manifest = store.require(ref)
        rejected = read_table(
            store.read(manifest, "rejects.parquet"), CAPTION_REJECTS, ["caption_id", "reason"]
        ).to_pylist()
        rejects += len(rejected)
        for row in rejected:
            checks["rejected"].add(row["caption_id"], 0.0)
            if row["reason"] == Reason.REFUSAL:
                checks["refused"].add(row["caption_id"], 0.0)
        for row in read_table(store.read(manifest, "captions.parquet"), CAPTIONS, _COLUMNS).to_pylist():
            captions += 1
            _check_row(row, checks, limits)
            # 16 hex digits of a hash stand for the text, so that memory stays small.
            text = sha256_hex(row["total"].encode())[:16]
            held = holders.setdefault(text, (row["image_sha256"],))
            if held and held[0] == row["image_sha256"]:
                holders[text] = (*held, row["caption_id"])
                continue
            holders[text] = ()
            for identifier in (*held[1:], row["caption_id"]):
                repeats[text] += 1
                checks["duplicated"].add(identifier, float(repeats[text]))
    total = captions + rejects
    rows = []
    for name in names:
        of = total if name in ("rejected", "refused") else captions
        value = checks[name].count / of if of else float(name == "rejected")
        limit = float(getattr(limits, name))
        passed = value <= limit
        rows.append({"check": name, "value": value, "limit": limit, "passed": passed, "worst": checks[name].names()})
    return rows


def _check_row(row: dict[str, Any], checks: dict[str, _Check], limits: GateThresholds) -> None:
    identifier = row["caption_id"]
    halves = (row["centre"], row["surrounding"])
    if row["cut"]:
        checks["cut"].add(identifier, float(row["tokens_total"]))
    fewest = min(len(re.findall(r"\w+", half)) for half in halves)
    if fewest < limits.min_words:
        checks["short"].add(identifier, -float(fewest))
    repeats = max(_most_repeats(half) for half in halves)
    if repeats > 1:
        checks["repeated"].add(identifier, float(repeats))
    first, second = content_words(halves[0]), content_words(halves[1])
    smaller = min(len(first), len(second))
    share = len(first & second) / smaller if smaller else 0.0
    if share >= limits.leak_share:
        checks["leaking"].add(identifier, share)


def _most_repeats(text: str) -> int:
    """How often the commonest keyword or run of three words stands in a text."""
    words = re.findall(r"\w+", text.lower())
    grams = Counter(tuple(words[place : place + 3]) for place in range(len(words) - 2))
    keywords = Counter(part.strip().lower() for part in text.split(",") if part.strip())
    return max((*grams.values(), *keywords.values()), default=0)
