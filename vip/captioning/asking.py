"""Asking: the passes of one process over the shards of a plan."""

import asyncio
import itertools
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from schemas.budget import Budget
from schemas.spec import CaptionSpec
from storage.answers import Answers
from storage.claims import Claim, Claims
from storage.journal import Journal, journalling
from storage.store import ArtifactStore
from vip.captioning.ask_stats import AskStats
from vip.captioning.client import Client, Job
from vip.captioning.judge import Judge
from vip.captioning.parse import UNDECODABLE, Reject
from vip.captioning.plan import CaptionPlan, ShardWork, open_rows
from vip.captioning.project import make_judge
from vip.captioning.reply import Reply
from vip.captioning.request import Request
from vip.captioning.shard_images import ShardImages
from vip.interruptible import run_interruptible

Progress = Callable[[str, int, int, str], None]
"""(what, done, total, detail)"""

_BATCH = 32
_LOOK_AGAIN = 1.0


class Asking:
    """The state of one call of :func:`ask`."""

    claims: Claims | None = None

    def __init__(
        self,
        store: ArtifactStore,
        plan: CaptionPlan,
        scratch: Path,
        on_progress: Progress | None,
        budget: Budget,
        spent: AskStats,
    ) -> None:
        self._budget, self._spent, self._sent = budget, spent, 0
        self.store, self.plan, self.scratch = store, plan, scratch
        self.stats = AskStats()
        self.touched: set[str] = set()
        self.answers = Answers(store.backend, plan.spec.answers_id)
        self._on_progress = on_progress
        self._rejected: Counter[str] = Counter()
        self._started = self._told = time.monotonic()

    def ask(self, work: list[ShardWork], connect: Callable[[], Client]) -> list[ShardWork]:
        """Ask about every shard that nobody else is asking about; the others are returned."""
        held: list[ShardWork] = []
        self._held = held
        while work:
            client = connect()
            every = client.settings.publish_every
            with journalling(self.answers, self.plan.bits, self.scratch, every) as journal:
                run_interruptible(self.run(client, work, journal))
            self.count(client)
            if self.stats.stopped:
                break
            # A rejected answer may call for another question; where the spec allows none, one pass is all.
            again = self.plan.round > 0 or self.plan.spec.budget.over == "reask"
            work = [shard for shard in work if shard.prefix in self.touched] if again else []
            self.touched, self._held = set(), []
        if self.claims:
            self.claims.release(finished=not self.stats.stopped)
        return held

    def wait(self, held: list[ShardWork], watch: Callable[[], None] | None) -> list[ShardWork]:
        """Wait until a shard that another process asked about is free; returns all that may be left to ask about."""
        while self.claims and held and not self.stats.stopped:
            told = {shard.prefix: self.claims.look(shard.shard.key) for shard in held}
            held = [shard for shard in held if told[shard.prefix] is not Claim.DONE]
            if any(claim is None for claim in told.values()):
                break
            if watch is not None:
                watch()
            self._tell(f"{len(held):,} shards are asked by other processes", time.monotonic())
            time.sleep(_LOOK_AGAIN)
        return held

    @property
    def model_name(self) -> str | None:
        """What every answer must say it comes from; None where the identity is only declared."""
        model = self.plan.spec.model
        return None if model.declared else self.judge.builder.model_name

    @property
    def judge(self) -> Judge:
        """The judge of the plan's spec."""
        if not hasattr(self, "_judge"):
            self._judge = make_judge(self.plan.spec, self.plan.round, self.plan.noise)
        return self._judge

    def count(self, client: Client) -> None:
        """Add what a client did to the stats."""
        self.stats.retries += client.stats.retries
        self.stats.throttled += client.stats.throttled
        self.stats.most_in_flight = max(self.stats.most_in_flight, client.stats.most_in_flight)
        for base, completed in client.stats.by_endpoint.items():
            self.stats.by_endpoint[base] = self.stats.by_endpoint.get(base, 0) + completed
        self.stats.rejected = dict(sorted(self._rejected.items()))

    async def run(self, client: Client, work: list[ShardWork], journal: Journal) -> None:
        """One pass over the shards."""
        self._client, self._journal = client, journal
        # Pillow lets go of the interpreter while it decodes, resizes and encodes, so that threads render side by side.
        workers = max(1, min(8, (os.cpu_count() or 1) - 1))
        with ThreadPoolExecutor(1, "read-ahead") as reader, ThreadPoolExecutor(workers, "render") as self._renderers:
            await client.run(self._jobs(work, reader), self._take)

    async def _jobs(self, work: list[ShardWork], reader: ThreadPoolExecutor) -> AsyncIterator[Job]:
        """Jobs in batches, read by a thread, so that a slow store never stops the loop."""
        batches = self._batches(work)
        loop = asyncio.get_running_loop()
        while (batch := await loop.run_in_executor(reader, next, batches, None)) is not None:
            for job in batch:
                if self._over_budget():
                    return
                self._sent += 1
                yield job

    def _over_budget(self) -> bool:
        stats, spent = self.stats, self._spent
        self.stats.stopped = self._budget.reached(
            self._sent + spent.requests,
            stats.tokens + spent.tokens,
            time.monotonic() - self._started + spent.seconds,
        )
        return bool(self.stats.stopped)

    def _batches(self, work: list[ShardWork]) -> Iterator[list[Job]]:
        questions = (question for shard in work if self._ours(shard) for question in self._questions(shard))
        while batch := list(itertools.islice(questions, _BATCH)):
            yield self._prepare(batch)

    def _ours(self, shard: ShardWork) -> bool:
        """Whether we are to ask about a shard now; where another process is asking, it is kept for later."""
        claim = self.claims.take(shard.shard.key) if self.claims else Claim.OURS
        if claim is Claim.HELD:
            self._held.append(shard)
        return claim is Claim.OURS

    def _questions(self, work: ShardWork) -> Iterator[tuple[Request, bytes]]:
        """What is to be asked about the images of a shard, with their original bytes."""
        plan = self.plan
        limit = work.rows if plan.limit is not None else None
        asked: set[str] = set()
        images: ShardImages | None = None
        for row, needs in open_rows(self.store, work.prefix, work.shard, self.judge, plan.bank, limit):
            for request in needs:
                if request.request_id in asked:
                    continue
                asked.add(request.request_id)
                self.touched.add(work.prefix)
                images = images or ShardImages(self.store, self.store.require(work.shard))
                yield request, images.read(row.sample.image_sha256)
        if images:
            images.close()

    def _prepare(self, batch: list[tuple[Request, bytes]]) -> list[Job]:
        """Bodies for a batch; a row whose image cannot be rendered gets that as its answer."""
        spec = self.plan.spec
        renders = [not request.sends_original(spec) for request, _ in batch]
        if any(renders):
            bodies = list(self._renderers.map(_body, itertools.repeat(spec), batch))
        else:
            bodies = [_body(spec, question) for question in batch]
        jobs = []
        for (request, _), body in zip(batch, bodies, strict=True):
            if isinstance(body, bytes):
                jobs.append(Job(request, body))
            else:
                self._journal.append(_undecodable(request, spec.model.id, body))
                self._rejected["undecodable_image"] += 1
        return jobs

    def _take(self, reply: Reply) -> None:
        answer = reply.answer(self.plan.spec.model.id, self.plan.spec.model.server)
        self._journal.append(answer)
        stats = self.stats
        stats.requests += 1
        stats.prompt_tokens += reply.prompt_tokens or 0
        stats.completion_tokens += reply.completion_tokens or 0
        found = self.judge.read(reply.request, answer)
        if isinstance(found, Reject):
            self._rejected[found.reason.value] += 1
        if time.monotonic() - self._told > 0.5:
            self.tell()

    def tell(self) -> None:
        """Tell how far it is, as at the end of it."""
        now = time.monotonic()
        self._tell(self._detail(now), now)

    def _tell(self, detail: str, now: float) -> None:
        self._told, asked = now, self.stats.requests
        if self._on_progress is not None:
            self._on_progress("captioning", asked, max(self.plan.requests, asked), detail)

    def _detail(self, now: float) -> str:
        seconds = max(now - self._started, 1e-6)
        rate = self.stats.requests / seconds
        tokens = self.stats.completion_tokens / seconds
        return (
            f"{rate:.0f}/s, {tokens:.0f} tokens/s, {self._client.stats.in_flight} in flight, "
            f"{sum(self._rejected.values())} rejected"
        )


def _body(spec: CaptionSpec, question: tuple[Request, bytes]) -> bytes | Exception:
    request, data = question
    try:
        return request.body(data, spec)
    except (OSError, ValueError, SyntaxError) as error:  # Pillow raises SyntaxError for some broken PNGs
        return error


def _undecodable(request: Request, model_id: str, error: Exception) -> dict[str, Any]:
    why = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    return Reply(request, error=UNDECODABLE + why, endpoint="none").answer(model_id, "")
