"""Project: the captions of one shard as a pure function of its answers."""

from pathlib import Path
from typing import Any

from schemas.bank import Bank
from schemas.canonical import canonical_json
from schemas.errors import VipError
from schemas.manifest import ArtifactRef, Manifest, Recipe
from schemas.prompt import total_prompt
from schemas.region import region_json
from schemas.spec import CaptionSpec, split_tokenizer
from schemas.tables import CAPTION_REJECTS, CAPTIONS
from storage.answers import Answers
from storage.store import ArtifactStore
from storage.tables import write_table
from vip.captioning.judge import Answered, Caption, Judge, Needs, Rejected
from vip.captioning.rows import Row, read_samples, shard_rows
from vip.captioning.specs import resolve_tokenizer, tokenizer_folder
from vip.captioning.tokens import load_counter

STAGE_VERSION = 2
"""Raised when the same answers are read into other captions, as by a better parser."""


def captions_recipe(shard: ArtifactRef, spec: CaptionSpec, bank: Bank, round: int = 0) -> Recipe:
    """What names the captions of a shard; known without opening the shard or asking anything.

    Args:
        round: how many times rejected rows were retried.
    """
    return Recipe(
        kind="captions",
        stage="project_shard",
        stage_version=STAGE_VERSION,
        inputs={"shard": shard},
        params={"spec": spec.params, "bank": bank.params, "round": round},
    )


def make_judge(spec: CaptionSpec, round: int = 0, noise: bool = False) -> Judge:
    """The judge of a resolved spec, with the target's tokenizer.

    Raises:
        VipError: where that is another one here than the spec, and so the key of the captions, says.
    """
    name, named = split_tokenizer(spec.tokenizer)
    folder, digest = tokenizer_folder(name), split_tokenizer(resolve_tokenizer(name))[1]
    if named and named != digest:
        raise VipError(
            f"the tokenizer {name} is {digest} here, the captions are named by {named}",
            "run the command again where it was changed; give every worker's host the same one",
        )
    return Judge(spec, load_counter(folder, digest), round, noise)


def project_shard(store: ArtifactStore, shard: Manifest, spec: CaptionSpec, bank: Bank, round: int = 0) -> Manifest:
    """The ``captions`` artifact of a shard: found by its key, else read from the answers. Asks nothing.

    Raises:
        VipError: where a row still has no answer.
    """

    def build(folder: Path) -> dict[str, Any]:
        answers = Answers(store.backend, spec.answers_id)
        prefix = str(shard.params["prefix"])
        segments = answers.segments(prefix)
        held = answers.look_up(prefix, ("text", "finish_reason", "error"), segments)
        rows = list(shard_rows(read_samples(store, shard), bank))
        stats = write_projection(folder, rows, make_judge(spec, round), held)
        stats |= {"spec": spec.name, "spec_id": spec.spec_id, "answers": spec.answers_id}
        stats["segments"] = [segment.sha256 for segment in segments]
        # The key does not say where the files of masks lie, and who reads the captions needs to know.
        return stats if bank.params == (whole := bank.model_dump(mode="json")) else {**stats, "bank": whole}

    return store.build(captions_recipe(shard.ref, spec, bank, round), build)[0]


def write_projection(folder: Path, rows: list[Row], judge: Judge, answers: Answered) -> dict[str, Any]:
    """Write ``captions.parquet`` and ``rejects.parquet`` of decided rows.

    Returns:
        Stats: rows of each file, and rejects by reason.

    Raises:
        VipError: where a row still has no answer.
    """
    captions: list[dict[str, Any]] = []
    rejects: list[dict[str, Any]] = []
    unanswered = 0
    spec_id = judge.spec.spec_id
    for row in rows:
        decided = judge.decide(row, answers)
        if isinstance(decided, Needs):
            unanswered += 1
            continue
        record = {
            "caption_id": row.caption_id(spec_id),
            "image_sha256": row.sample.image_sha256,
            "view": row.view.id,
            "region": row.region.id,
            "view_json": canonical_json(row.view.model_dump(mode="json")).decode(),
            "region_json": region_json(row.region),
            "spec_id": spec_id,
            "request_ids": [request.request_id for request in decided.requests],
            "draws": [request.draw for request in decided.requests],
        }
        if isinstance(decided, Caption):
            captions.append({**record, **_caption_columns(decided)})
        else:
            rejects.append({**record, **_reject_columns(decided, answers)})
    if unanswered:
        raise VipError(f"{unanswered} of {len(rows)} rows have no answer yet", "run `vip caption` again")
    counts: dict[str, int] = {}
    for reject in rejects:
        counts[reject["reason"]] = counts.get(reject["reason"], 0) + 1
    return {
        "rows": {
            "captions.parquet": write_table(folder / "captions.parquet", captions, CAPTIONS),
            "rejects.parquet": write_table(folder / "rejects.parquet", rejects, CAPTION_REJECTS),
        },
        "captions": len(captions),
        "rejected": len(rejects),
        "reasons": dict(sorted(counts.items())),
    }


def _caption_columns(caption: Caption) -> dict[str, Any]:
    return {
        "centre": caption.centre,
        "surrounding": caption.surrounding,
        "total": total_prompt(caption.centre, caption.surrounding),
        "tokens_centre": caption.tokens_centre,
        "tokens_surrounding": caption.tokens_surrounding,
        "tokens_total": caption.tokens_total,
        "cut": caption.cut,
        "leak": caption.leak,
    }


def _reject_columns(rejected: Rejected, answers: Answered) -> dict[str, Any]:
    held = [answers[request.request_id] for request in rejected.requests]
    return {
        "reason": rejected.reject.reason.value,
        "detail": rejected.reject.detail,
        "raw": [answer["text"] if answer["text"] is not None else answer["error"] or "" for answer in held],
    }
