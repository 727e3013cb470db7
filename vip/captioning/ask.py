"""Ask: send what a plan found missing, and keep every answer the moment it arrives."""

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from schemas.budget import Budget
from schemas.canonical import fingerprint
from schemas.endpoints import Endpoints
from schemas.errors import VipError
from schemas.spec import CaptionSpec
from storage.claims import Claims
from storage.journal import recover
from storage.store import ArtifactStore
from vip.captioning.ask_stats import AskStats
from vip.captioning.asking import Asking, Progress
from vip.captioning.client import Client
from vip.captioning.discovery import find_endpoints
from vip.captioning.endpoint import ClientSettings
from vip.captioning.plan import CaptionPlan
from vip.serving.identity import check_served, check_version, served_models

log = logging.getLogger(__name__)


def ask(
    store: ArtifactStore,
    plan: CaptionPlan,
    endpoints: list[str] | Endpoints,
    scratch: Path,
    on_progress: Progress | None = None,
    settings: ClientSettings | None = None,
    watch: Callable[[], None] | None = None,
    budget: Budget | None = None,
    spent: AskStats | None = None,
    begin: float = 0.0,
    on_change: Callable[[str], None] = log.info,
) -> AskStats:
    """Ask everything the plan found missing, save what another process asks meanwhile.

    Several processes, on any hosts, may ask the same dataset: each claims a shard before it asks about it, and looks
    first at what is answered since. What a process that ends or dies leaves, the others take over.

    Args:
        endpoints: base URLs, or where to look for them while it goes on; each must serve the model of the plan's spec.
        scratch: local folder for the journal.
        on_progress: called as ``(what, done, total, detail)``.
        watch: called now and then; raises where a server of our own has died.
        budget: caps of the run; where one is reached no further request is sent, and the stats say which.
        spent: what the run has asked before, which counts towards the budget.
        on_change: told in a line of engines that come, go or are turned away.
        begin: where among the shards to begin, 0 to 1, so that processes that start together do not meet.

    Raises:
        VipError: where no endpoint answers any more, what was answered until then being kept, or one of several that
            are given as a list serves another model or runs another server.
    """
    settings = settings or ClientSettings()
    asking = Asking(store, plan, scratch, on_progress, budget or Budget(), spent or AskStats())
    if not plan.requests:
        return asking.stats
    asking.stats.recovered = recover(store.backend, scratch, plan.spec.answers_id)
    asking.answers.describe(plan.spec.asked)
    started, cpu = time.monotonic(), time.process_time()
    given = endpoints if isinstance(endpoints, Endpoints) else Endpoints(urls=tuple(endpoints))
    admit = partial(_admit, plan.spec, asking.judge.builder.model_name)
    if not given.changing:
        _check_each(find_endpoints(given), admit)

    def connect() -> Client:
        find = partial(find_endpoints, given) if given.changing else None
        return Client(find_endpoints(given), asking.model_name, settings, watch, find, admit, on_change)

    first = int(begin * len(plan.work))
    work = plan.work[first:] + plan.work[:first]
    with _claims(store, plan, scratch) as asking.claims:
        while work and not asking.stats.stopped:
            held = asking.ask(work, connect)
            work = asking.wait(held, watch)
    if asking.stats.requests:
        asking.tell()
    asking.stats.seconds = time.monotonic() - started
    asking.stats.cpu_seconds = time.process_time() - cpu
    return asking.stats


def _check_each(urls: list[str], admit: Callable[[str], None]) -> None:
    """Check several endpoints that stay as they are; one that is down is left to the client.

    The only one was checked when the spec was resolved.
    """
    for url in urls if len(urls) > 1 else []:
        try:
            served_models(url)
        except VipError:
            continue
        admit(url)


def _admit(spec: CaptionSpec, name: str, endpoint: str) -> None:
    """Check an endpoint as the first one was checked when the spec was resolved.

    Raises:
        VipError: where it serves another model, or a checked one by another server.
    """
    check_served(endpoint, name)
    if not spec.model.declared and spec.model.server != "unknown":
        check_version(endpoint, spec.model.server)


@contextlib.contextmanager
def _claims(store: ArtifactStore, plan: CaptionPlan, scratch: Path) -> Iterator[Claims | None]:
    """Claims on the shards of a plan; a sample of rows is small and asks without."""
    if plan.limit is not None or plan.noise:
        yield None
        return
    # Other regions of the same images are other work. Another way to read the same answers is not, so that none is
    # asked twice, but it may need other ones: a shorter one of what is too long for it, a further draw.
    work = fingerprint([plan.spec.answers_id, plan.bank.params])[:32]
    aim = fingerprint([plan.spec.spec_id, plan.round])[:32]

    def publish_its_journal() -> None:
        recover(store.backend, scratch, plan.spec.answers_id)

    with Claims(store.backend, work, scratch, aim, publish_its_journal) as claims:
        yield claims
