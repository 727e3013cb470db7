"""Compare: old captions beside new ones, the model against itself, and joint against split answers."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from schemas.bank import Bank
from schemas.manifest import Manifest
from schemas.spec import CaptionSpec
from schemas.tables import CAPTIONS
from storage.answers import Answers
from storage.store import ArtifactStore
from storage.tables import read_table
from vip.captioning.judge import NOISE_DRAW, Caption, Judge
from vip.captioning.leakage import content_words
from vip.captioning.plan import CaptionPlan, dataset_shards
from vip.captioning.project import make_judge
from vip.captioning.rows import Row, read_samples, shard_rows


@dataclass(frozen=True)
class Agreement:
    """How far two sets of captions of the same rows agree.

    Attributes:
        rows: captioned on both sides.
        identical: share with the same centre and the same surrounding, 0..1.
        centre, surrounding: mean overlap of their words (Jaccard), 0..1.
    """

    rows: int
    identical: float
    centre: float
    surrounding: float


@dataclass(frozen=True)
class Beside:
    """One row of a preview."""

    image_sha256: str
    region: str
    old: tuple[str, str] | None
    new: tuple[str, str] | None
    reason: str = ""


def agreement(pairs: Iterable[tuple[tuple[str, str], tuple[str, str]]]) -> Agreement:
    """Agreement over pairs of (centre, surrounding)."""
    rows = identical = 0
    centre = surrounding = 0.0
    for first, second in pairs:
        rows += 1
        identical += first == second
        centre += _jaccard(first[0], second[0])
        surrounding += _jaccard(first[1], second[1])
    return Agreement(rows, identical / rows, centre / rows, surrounding / rows) if rows else Agreement(0, 0.0, 0.0, 0.0)


def noise_floor(store: ArtifactStore, dataset: Manifest, spec: CaptionSpec, bank: Bank) -> Agreement:
    """How often the model agrees with itself, over the rows that were drawn again (``plan_captions(noise=True)``).

    A difference between two specs that is not above this is noise.
    """
    return agreement(_drawn_twice(store, dataset, spec, bank))


def _drawn_twice(
    store: ArtifactStore, dataset: Manifest, spec: CaptionSpec, bank: Bank
) -> Iterator[tuple[tuple[str, str], tuple[str, str]]]:
    first, second = make_judge(spec), make_judge(spec, noise=True)
    answers = Answers(store.backend, spec.answers_id)
    for prefix, ref in dataset_shards(dataset).items():
        held = answers.look_up(prefix, ("text", "finish_reason", "error", "draw"))
        if not any(answer["draw"] >= NOISE_DRAW for answer in held.values()):
            continue
        for row in shard_rows(read_samples(store, store.require(ref)), bank):
            once, again = first.decide(row, held), second.decide(row, held)
            if isinstance(once, Caption) and isinstance(again, Caption):
                yield (once.centre, once.surrounding), (again.centre, again.surrounding)


def preview(store: ArtifactStore, plan: CaptionPlan) -> list[Beside]:
    """The rows of a plan with a limit: what they said before beside what they say now."""
    judge = make_judge(plan.spec, plan.round)
    shown: list[Beside] = []
    for work in plan.work:
        held = Answers(store.backend, plan.spec.answers_id).look_up(work.prefix)
        old = _old_captions(store, plan, work.prefix)
        rows = shard_rows(read_samples(store, store.require(work.shard)), plan.bank)
        for _, row in zip(range(work.rows), rows, strict=False):
            shown.append(_beside(row, judge, held, old))
    return shown


def _beside(row: Row, judge: Judge, held: Any, old: dict[tuple[str, str, str], tuple[str, str]]) -> Beside:
    decided = judge.decide(row, held)
    key = (row.sample.image_sha256, row.view.id, row.region.id)
    if isinstance(decided, Caption):
        return Beside(key[0], key[2], old.get(key), (decided.centre, decided.surrounding))
    reason = decided.reject.reason.value if hasattr(decided, "reject") else "not answered"
    return Beside(key[0], key[2], old.get(key), None, reason)


def _old_captions(store: ArtifactStore, plan: CaptionPlan, prefix: str) -> dict[tuple[str, str, str], tuple[str, str]]:
    """Captions of the nearest earlier set under these bits."""
    found: dict[tuple[str, str, str], tuple[str, str]] = {}
    for role, ref in (plan.earlier.inputs if plan.earlier else {}).items():
        bits = role.removeprefix("captions/")
        if bits.startswith(prefix) or prefix.startswith(bits):
            for row in _rows(store, store.require(ref)):
                found[_key(row)] = (row["centre"], row["surrounding"])
    return found


def _rows(store: ArtifactStore, captions: Manifest) -> list[dict[str, Any]]:
    columns = ["caption_id", "image_sha256", "view", "region", "centre", "surrounding"]
    return read_table(store.read(captions, "captions.parquet"), CAPTIONS, columns).to_pylist()


def _key(row: dict[str, Any]) -> tuple[str, str, str]:
    return row["image_sha256"], row["view"], row["region"]


def _jaccard(first: str, second: str) -> float:
    one, two = content_words(first), content_words(second)
    return len(one & two) / len(one | two) if one | two else 1.0
