"""Garbage collection: what no ref reaches goes, and what is gone stays known."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from graphlib import TopologicalSorter
from typing import get_args

from schemas.manifest import ArtifactRef, Kind, Manifest
from storage.refs import Refs
from storage.removal import collect, leftovers, remove_leftover
from storage.store import ArtifactStore

Progress = Callable[[str, int, int], None]

RECORDS = ("gate", "evaluation", "promotion", "report")
"""Kept while the checkpoint, captions or evaluation that they speak of is kept: nobody names them, all ask for them."""

DERIVED = {"latents": "shard", "embeddings": "captions"}
"""Kind -> kind of the input that keeps it: nobody names it, and a run that trains on that input again wants it."""

ALWAYS = ("suppression", "takedown")
"""Never collected."""


@dataclass
class GcPlan:
    """What a collection would take.

    Attributes:
        artifacts: what no ref reaches, what is made of others before them.
        leftovers: (path, bytes) of files that were never published.
        kept: number of artifacts that stay.
        young: unreached, but made within the time of grace: a run that goes on may be about to use them.
        refs: every entry of a ref that stood when it was made.
        again: makes it anew.
    """

    artifacts: list[Manifest] = field(default_factory=list)
    leftovers: list[tuple[str, int]] = field(default_factory=list)
    kept: int = 0
    young: int = 0
    refs: list[str] = field(default_factory=list)
    again: "Callable[[], GcPlan] | None" = None

    @property
    def bytes(self) -> int:
        """What it would free."""
        held = sum(output.bytes for manifest in self.artifacts for output in manifest.outputs.values())
        return held + sum(size for _, size in self.leftovers)


def plan_gc(
    store: ArtifactStore, history: int = 2, grace: timedelta = timedelta(hours=24), precomputed: bool = False
) -> GcPlan:
    """Find what no ref reaches.

    Args:
        store: the root. Its manifests are read, not the index: nothing is deleted on the word of a derived file.
        history: how many entries of each ref count, the current one included; 2 leaves a roll-back.
        grace: what is younger stays.
        precomputed: take latents and embeddings too that belong to what stays; a run that wants them makes them again.

    Raises:
        VipError: where a manifest cannot be read; what it leads to would be lost.
    """
    entries = list(store.backend.list("refs"))  # looked at first: what is set from now on is seen by run_gc
    manifests = {(kind, made.key): made for kind in get_args(Kind) for made in store.list(kind)}
    refs = Refs(store.backend)
    targets = [entry.target for name in refs.names() for entry in refs.log(name)[-history:]]
    kept = _reached(manifests, targets)
    growing = True
    while growing:
        records = [
            made.ref
            for key, made in manifests.items()
            if key not in kept and (made.kind in ALWAYS or _belongs(made, kept, precomputed))
        ]
        growing = bool(records)
        kept |= _reached(manifests, records)
    plan = GcPlan(kept=len(kept), refs=entries, again=partial(plan_gc, store, history, grace, precomputed))
    young_after = datetime.now(UTC) - grace
    unreached = [made for key, made in manifests.items() if key not in kept]
    young = [made for made in unreached if made.run.finished > young_after]
    spared = _reached(manifests, [made.ref for made in young])
    for made in unreached:
        if (made.kind, made.key) in spared:
            plan.young += 1
        else:
            plan.artifacts.append(made)
    # What is made of others goes before them, so that a collection that is cut short leaves no artifact without its
    # inputs. The times in the manifests do not tell: a clock may have been set back between two of them.
    wanted = {(made.kind, made.key): made for made in plan.artifacts}
    inputs = {key: [(ref.kind, ref.key) for ref in made.inputs.values()] for key, made in wanted.items()}
    order = [key for key in TopologicalSorter(inputs).static_order() if key in wanted]
    plan.artifacts = [wanted[key] for key in reversed(order)]
    plan.leftovers = list(leftovers(store.backend, grace.total_seconds()))
    return plan


def run_gc(store: ArtifactStore, plan: GcPlan, progress: Progress | None = None) -> None:
    """Take away what the plan names, each artifact behind a record of what it was.

    A run, or a person, may point a ref at something of it meanwhile: what a ref has come to reach stays, and the plan
    names it no more.
    """
    taken: list[Manifest] = []
    named, entries = {(made.kind, made.key) for made in plan.artifacts}, plan.refs
    for done, made in enumerate(plan.artifacts, 1):
        now = list(store.backend.list("refs"))
        if plan.again is not None and now != entries:
            entries, named = now, named & {(one.kind, one.key) for one in plan.again().artifacts}
        if (made.kind, made.key) in named:
            collect(store, made, "no ref reached it")
            taken.append(made)
        if progress:
            progress("artifacts collected", done, len(plan.artifacts))
    plan.artifacts = taken
    for path, _ in plan.leftovers:
        remove_leftover(store.backend, path)


def _reached(manifests: dict[tuple[Kind, str], Manifest], starts: list[ArtifactRef]) -> set[tuple[Kind, str]]:
    seen: set[tuple[Kind, str]] = set()
    waiting = [(ref.kind, ref.key) for ref in starts]
    while waiting:
        key = waiting.pop()
        if key in seen or key not in manifests:
            continue
        seen.add(key)
        waiting += [(ref.kind, ref.key) for ref in manifests[key].inputs.values()]
    return seen


def _belongs(made: Manifest, kept: set[tuple[Kind, str]], precomputed: bool) -> bool:
    """Whether something that no ref reaches stays for the sake of what is kept."""
    if made.kind in DERIVED:
        subjects = set() if precomputed else {DERIVED[made.kind]}
    elif made.kind in RECORDS:
        subjects = {"checkpoint"} if made.kind == "evaluation" else {"checkpoint", "caption_set", "evaluation"}
    else:
        return False
    return any((ref.kind, ref.key) in kept for ref in made.inputs.values() if ref.kind in subjects)
