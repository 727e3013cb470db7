"""Caption: a dataset becomes caption sets, one for each spec, asked of one server for each model."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import groupby

from prefect import flow
from prefect.artifacts import create_table_artifact

from flows.console import console
from flows.progress import reporting
from flows.run import scratch_folder
from flows.runners import Pool, sealed, working
from flows.tasks import log_folder, open_store, task
from schemas.bank import Bank
from schemas.budget import Budget
from schemas.endpoints import Endpoints
from schemas.errors import VipError
from schemas.gate import GateThresholds
from schemas.manifest import ArtifactRef
from schemas.retrain_config import CaptionConfig
from schemas.runner import THREADS, Runner
from schemas.spec import CaptionSpec
from schemas.tables import GATE_CHECKS
from storage.tables import read_table
from vip.captioning.ask import ask
from vip.captioning.ask_stats import AskStats
from vip.captioning.caption_set import make_caption_set
from vip.captioning.discovery import first_endpoint
from vip.captioning.endpoint import at_most
from vip.captioning.gate import run_gate
from vip.captioning.plan import CaptionPlan, current_round, find_captions, next_round, plan_captions
from vip.captioning.project import project_shard
from vip.captioning.specs import resolve_spec
from vip.serving.engine import engine_for


@dataclass(frozen=True)
class Server:
    """Who answers, and a check that raises where a server of our own has died."""

    endpoints: Endpoints
    in_flight: int | None = None
    watch: Callable[[], None] | None = None


@dataclass(frozen=True)
class Part:
    """One of several workers that ask the same plan, and what it may ask."""

    number: int
    parts: int
    budget: Budget


@dataclass(frozen=True)
class Captioned:
    """What one spec gave: the caption set, and what was asked for it now."""

    caption_set: ArtifactRef
    asked: AskStats
    captions: int
    rejected: int


@task(task_run_name="plan")
def plan(
    root: str,
    dataset: ArtifactRef,
    spec: CaptionSpec,
    bank: Bank,
    retry_rejected: bool = False,
    limit: int | None = None,
    noise: bool = False,
) -> CaptionPlan:
    """Find out what is missing; asks no server."""
    store = open_store(root)
    data = store.require(dataset)
    round = (next_round if retry_rejected else current_round)(store, data, spec, bank)
    scratch = scratch_folder(root) / "answers"
    return plan_captions(store, data, spec, bank, limit=limit, round=round, scratch=scratch, noise=noise)


@task(task_run_name="ask")
def ask_missing(root: str, missing: CaptionPlan, server: Server, budget: Budget, spent: AskStats) -> AskStats:
    """Ask what the plan found missing; every answer is kept the moment it arrives."""
    with reporting() as progress:
        scratch = scratch_folder(root) / "answers"
        return ask(
            open_store(root),
            missing,
            server.endpoints,
            scratch,
            on_progress=progress,
            settings=at_most(server.in_flight),
            watch=server.watch,
            budget=budget,
            spent=spent,
            on_change=_say,
        )


def _say(line: str) -> None:
    console.say(f"  {line}")


@task(task_run_name="ask-{part.number}")
def ask_part(part: Part, root: str, missing: CaptionPlan, server: Server) -> AskStats:
    """Ask in a worker, beside others that were given the same plan; a shard is asked by whoever comes first."""
    with reporting(console_too=False) as progress:  # the lines of several processes would run into each other
        return ask(
            open_store(root),
            missing,
            server.endpoints,
            scratch_folder(root) / "answers",
            on_progress=progress,
            settings=at_most(server.in_flight),
            budget=part.budget,
            begin=part.number / part.parts,
        )


@task(task_run_name="captions-{shards[0][0]}")
def project(shards: tuple[tuple[str, ArtifactRef], ...], root: str, spec: CaptionSpec, bank: Bank, round: int) -> int:
    """Read the answers of some shards as captions, or find them read; tells only how many shards they are."""
    store = open_store(root)
    for _, shard in shards:
        project_shard(store, store.require(shard), spec, bank, round)
    return len(shards)


@task(task_run_name="caption-set")
def join(root: str, dataset: ArtifactRef, spec: CaptionSpec, bank: Bank, round: int) -> ArtifactRef:
    """Join the captions of all shards, each of which is found by its key."""
    store = open_store(root)
    data = store.require(dataset)
    made = make_caption_set(store, data, filter(None, find_captions(store, data, spec, bank, round)))
    counts = [{"what": "captions", "count": made.stats["captions"]}]
    counts += [{"what": f"rejected: {reason}", "count": count} for reason, count in made.stats["reasons"].items()]
    create_table_artifact(key="captions", table=counts, description=f"Captions by {made.stats['spec']}")
    return made.ref


@task(task_run_name="gate")
def gate(root: str, caption_set: ArtifactRef, thresholds: GateThresholds) -> ArtifactRef:
    """Check the captions before anything is trained on them.

    Raises:
        VipError: with the reasons and some of the worst rows, where they fail.
    """
    store = open_store(root)
    checked, verdict = run_gate(store, store.require(caption_set), thresholds)
    checks = read_table(store.read(checked, "checks.parquet"), GATE_CHECKS).to_pylist()
    create_table_artifact(key="gate", table=checks, description="Gate before training")
    verdict.require()
    return checked.ref


@flow(name="caption")
def caption(
    root: str,
    dataset: ArtifactRef,
    bank: Bank,
    config: CaptionConfig,
    specs: tuple[str, ...],
    retry_rejected: bool = False,
    runner: Runner = THREADS,
) -> list[Captioned]:
    """Caption ``dataset`` by each of ``specs``; only what no answer is known for is asked."""
    plans = [plan(root, dataset, one, bank, retry_rejected) for one in _resolved(config, specs)]
    if runner.address and not config.engines and any(one.requests for one in plans):
        raise VipError(
            f"the workers at {runner.address} cannot reach a vLLM of this host", "give endpoints that they can reach"
        )
    done, spent = [], AskStats()
    with working(runner) as pool:
        # A vLLM of our own serves one model; those of several come one after the other.
        for _, of_model in groupby(plans, lambda one: one.spec.model):
            same = list(of_model)
            with answering(root, same, config) as server:
                for one in same:
                    asked = _asked(root, dataset, one, server, config.budget, spent, pool)
                    spent = spent.plus(asked)
                    done.append(_captioned(root, dataset, one, asked, pool))
    return done


@flow(name="caption-sample")
def caption_sample(
    root: str, dataset: ArtifactRef, bank: Bank, config: CaptionConfig, limit: int, noise: bool = False
) -> CaptionPlan:
    """Ask for the first ``limit`` rows only, or once more for them, to measure noise; makes no caption set.

    Returns:
        The plan as it stands afterwards.
    """
    (spec,) = _resolved(config, (config.spec,))
    planned = plan(root, dataset, spec, bank, limit=limit, noise=noise)
    with answering(root, [planned], config) as server:
        _asked(root, dataset, planned, server, config.budget, AskStats())
    return planned


def _resolved(config: CaptionConfig, specs: tuple[str, ...]) -> list[CaptionSpec]:
    endpoint = first_endpoint(config.engines)
    return [resolve_spec(spec, config.model, endpoint) for spec in specs]


def _asked(
    root: str,
    dataset: ArtifactRef,
    one: CaptionPlan,
    server: Server,
    budget: Budget,
    spent: AskStats,
    pool: Pool | None = None,
) -> AskStats:
    """Ask by one client in this process, or by one in each worker of a cluster.

    Raises:
        VipError: where the budget is spent before all is answered, or no engine is left.
    """
    if not one.requests:
        return AskStats()
    if pool is None or not pool.runner.spread:
        asked = ask_missing(root, sealed(one), server, budget, spent)
        left = max(0, one.requests - asked.requests - asked.recovered)
    else:
        shares = budget.shares(pool.runner.workers, spent.requests, spent.tokens, spent.seconds)
        parts = [Part(number, len(shares), share) for number, share in enumerate(shares)]
        try:
            # All at once, whatever the wave: what one leaves, the others ask.
            each = pool.each(ask_part, parts, root, one, replace(server, watch=None), wave=len(parts))
            asked = AskStats.side_by_side(list(each))
        except VipError:
            if server.watch is not None:
                server.watch()  # a server of our own that died says more than those who asked it
            raise
        both = spent.plus(asked)
        asked.stopped = budget.reached(both.requests, both.tokens, both.seconds) or asked.stopped
        # A worker whose share is spent has stopped, but another may have asked what it left: only a look can tell.
        left = _left(root, dataset, one) if asked.stopped else 0
        asked.stopped = asked.stopped if left else ""
    if asked.stopped:
        raise VipError(
            f"captioning stopped: {asked.stopped}, about {left:,} requests are left",
            "what was answered is kept; run again to go on",
        )
    return asked


def _left(root: str, dataset: ArtifactRef, one: CaptionPlan) -> int:
    """Requests of a plan that are still to be asked."""
    store = open_store(root)
    return plan_captions(store, store.require(dataset), one.spec, one.bank, round=one.round).requests


def _captioned(root: str, dataset: ArtifactRef, one: CaptionPlan, asked: AskStats, pool: Pool) -> Captioned:
    # A shard that the plan found finished needs no task: at a thousand of them tasks would take minutes.
    left = [(prefix, shard) for prefix, shard in one.shards.items() if prefix not in one.done]
    read = len(one.done)
    for made in pool.each(project, pool.runner.slices(left), root, one.spec, one.bank, one.round):
        read += made
        console.progress("captions read", read, len(one.shards))
    made_set = join(root, dataset, one.spec, one.bank, one.round)
    stats = open_store(root).require(made_set).stats
    return Captioned(made_set, asked, stats["captions"], stats["rejected"])


@contextlib.contextmanager
def answering(root: str, plans: list[CaptionPlan], config: CaptionConfig) -> Iterator[Server]:
    """Who answers plans of one model: the endpoints of the config, else a vLLM of our own where one is needed."""
    if config.engines or not any(one.requests for one in plans):
        yield Server(config.engines, config.in_flight)
        return
    engine = engine_for(plans[0].spec, log_folder(root) / "vllm.log")
    console.say(f"  starting vLLM for {plans[0].spec.model.id} (half a minute on two cores); its log is {engine.log}")
    with engine:
        yield Server(Endpoints(urls=(engine.endpoint,)), config.in_flight, engine.check)
