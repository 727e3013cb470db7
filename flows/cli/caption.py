"""``vip caption``: centre and surrounding of every image."""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import click

from flows.cli.common import print_json, print_table, runner_option, shared_options, validated

if TYPE_CHECKING:
    from schemas.bank import Bank
    from schemas.manifest import Manifest
    from schemas.retrain_config import CaptionConfig
    from schemas.runner import Runner
    from storage.store import ArtifactStore


@click.command()
@click.argument("dataset")
@click.option("--spec", default="nano-joint", show_default=True, help="Built-in name or YAML file.")
@click.option("--model", help="nano, a folder or a hub id that answers instead of the spec's own.")
@click.option("--endpoint", "endpoints", multiple=True, help="A server that runs already; may be given several times.")
@click.option("--endpoints-file", help="File that names servers, one a line or a JSON list; read again as it changes.")
@click.option("--discover", "discovery", metavar="URL", help="URL that names servers, asked again and again.")
@click.option("--in-flight", type=click.IntRange(1), help="To one server at most. [default: as many as it can use]")
@click.option("--view", metavar="WIDTHxHEIGHT", help="Size in pixels of what is captioned. [default: 64x64]")
@click.option("--keep", "keeps", multiple=True, type=click.FloatRange(0.05, 0.95), help="Kept share. [default: 0.5]")
@click.option("--preset", "presets", multiple=True, help="Instead of both: those of an exam, such as 192-128.")
@click.option("--plan", "only_plan", is_flag=True, help="Say what would be asked and what it would cost; ask nothing.")
@click.option("--limit", type=click.IntRange(1), help="Caption a sample of so many rows and show old beside new.")
@click.option("--reask", type=click.IntRange(1), help="Ask so many rows again: how far the model repeats itself.")
@click.option("--retry-rejected", is_flag=True, help="A new draw for the rejected rows alone; gives a new caption set.")
@click.option("--max-requests", type=click.IntRange(1), help="Stop cleanly after so many; run again to go on.")
@click.option("--max-tokens", type=click.IntRange(1), help="Stop cleanly after so many tokens.")
@click.option("--max-hours", type=click.FloatRange(0, min_open=True), help="Stop cleanly after so much time.")
@click.option("--price-per-hour", type=click.FloatRange(0), default=0.0, help="Of the server.")
@click.option(
    "--price-per-million",
    type=click.FloatRange(0),
    nargs=2,
    default=(0.0, 0.0),
    metavar="PROMPT COMPLETION",
    help="Of tokens.",
)
@runner_option
@shared_options
def command(
    dataset: str,
    spec: str,
    model: str | None,
    endpoints: tuple[str, ...],
    endpoints_file: str | None,
    discovery: str | None,
    in_flight: int | None,
    view: str | None,
    keeps: tuple[float, ...],
    presets: tuple[str, ...],
    only_plan: bool,
    limit: int | None,
    reask: int | None,
    retry_rejected: bool,
    max_requests: int | None,
    max_tokens: int | None,
    max_hours: float | None,
    price_per_hour: float,
    price_per_million: tuple[float, float],
    runner: "Runner | None",
    root: str,
    as_json: bool,
) -> None:
    """Describe the centre and the surrounding of every image of DATASET.

    Without --endpoint a vLLM server is started and stopped. Answers that are known already are not asked again.
    """
    if (limit is not None) + (reask is not None) + retry_rejected > 1:
        raise click.UsageError("give one of --limit, --reask and --retry-rejected")
    from flows.artifacts import find_artifact
    from flows.console import console
    from flows.run import local_run
    from schemas.budget import Budget
    from schemas.endpoints import Endpoints
    from schemas.pricing import Price
    from schemas.retrain_config import CaptionConfig
    from storage.store import ArtifactStore

    bank = _of_presets(presets, view, keeps) if presets else _bank(view or "64x64", keeps or (0.5,))
    budget = validated(Budget, "the budget", requests=max_requests, tokens=max_tokens, hours=max_hours)
    prompt, completion = price_per_million
    per_million = {"per_million_prompt": prompt, "per_million_completion": completion}
    price = validated(Price, "the price", per_hour=price_per_hour, **per_million)
    validated(Endpoints, "vip caption", urls=endpoints, file=endpoints_file, discovery=discovery)
    config = CaptionConfig(
        spec=spec,
        imagined=None,
        model=model,
        endpoints=endpoints,
        endpoints_file=endpoints_file,
        discovery=discovery,
        in_flight=in_flight,
        budget=budget,
        price=price,
    )
    store = ArtifactStore(root)
    target = find_artifact(store, "dataset", dataset)
    work = _Work(root, store, target, bank, config, limit, reask, retry_rejected)
    console.quiet = as_json
    if only_plan:
        shown = _plan(work)
    else:
        with local_run(root):
            shown = _sample(work) if limit or reask else _caption(work, dataset, runner)
    if as_json:
        print_json(shown)
        return
    rows = shown.pop("old beside new", [])
    print_table(shown.items())
    for row in rows:
        click.echo(f"\n{row['image_sha256'][:12]} {row['region']} {row['reason']}".rstrip())
        print_table([(when, *(row[when] or ("-", "-"))) for when in ("old", "new")])


@dataclass(frozen=True)
class _Work:
    """What is captioned and how, and of which rows; None or False of what is not chosen."""

    root: str
    store: "ArtifactStore"
    dataset: "Manifest"
    bank: "Bank"
    config: "CaptionConfig"
    limit: int | None
    reask: int | None
    retry_rejected: bool


def _caption(work: _Work, name: str, runner: "Runner | None") -> dict[str, Any]:
    from flows.caption import caption
    from schemas.runner import THREADS
    from storage.refs import Refs

    config = work.config
    (done,) = caption(
        work.root, work.dataset.ref, work.bank, config, (config.spec,), work.retry_rejected, runner or THREADS
    )
    refs = Refs(work.store.backend)
    # Given by its key, a dataset still has a name where a ref points at it.
    names = [ref for ref in refs.names() if ref.startswith("dataset/") and refs.get(ref) == work.dataset.ref]
    label = done.caption_set.key[:12]
    if names:
        given = f"dataset/{name.removeprefix('dataset/')}"
        label = f"captions/{(given if given in names else names[0]).removeprefix('dataset/')}"
        refs.set(label, done.caption_set)
    spent = config.price.of(done.asked.prompt_tokens, done.asked.completion_tokens, done.asked.seconds)
    return {
        "captions": label,
        "caption_set": done.caption_set.key,
        "rows": done.captions,
        "rejected": done.rejected,
        "requests": done.asked.requests,
        "a second": round(done.asked.per_second, 1),
        **({"cost": float(f"{spent:.4g}")} if spent else {}),
    }


def _plan(work: _Work) -> dict[str, Any]:
    from flows.run import scratch_folder
    from vip.captioning.discovery import first_endpoint
    from vip.captioning.estimate import estimate
    from vip.captioning.plan import current_round, next_round, plan_captions
    from vip.captioning.specs import resolve_spec

    store, dataset, bank, config = work.store, work.dataset, work.bank, work.config
    spec = resolve_spec(config.spec, config.model, first_endpoint(config.engines))
    round = (next_round if work.retry_rejected else current_round)(store, dataset, spec, bank)
    scratch, noise = scratch_folder(work.root) / "answers", work.reask is not None
    plan = plan_captions(store, dataset, spec, bank, work.limit or work.reask, round, scratch, noise)
    expected = asdict(estimate(store, plan, config.price))
    return {
        "rows": plan.rows,
        "up to date": plan.up_to_date,
        "missing": plan.missing,
        "stale": plan.stale,
        **{f"stale by {cause}": rows for cause, rows in plan.causes.items() if cause},
        **{name.replace("_", " "): value for name, value in expected.items()},
    }


def _sample(work: _Work) -> dict[str, Any]:
    from flows.caption import caption_sample
    from vip.captioning.compare import noise_floor, preview

    rows, noise = work.limit or work.reask or 1, work.reask is not None
    plan = caption_sample(work.root, work.dataset.ref, work.bank, work.config, rows, noise)
    if noise:
        return asdict(noise_floor(work.store, work.dataset, plan.spec, work.bank))
    return {
        "rows": plan.rows,
        "requests": plan.requests,
        "old beside new": [asdict(row) for row in preview(work.store, plan)],
    }


def _bank(size: str, keeps: tuple[float, ...]) -> "Bank":
    from flows.cli.common import validated
    from schemas.bank import Bank
    from schemas.errors import VipError

    width, _, height = size.partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise VipError(f"--view {size} is no size", "give it as WIDTHxHEIGHT, such as 256x256")
    regions = [{"kind": "centre", "keep": keep} for keep in keeps]
    return validated(Bank, "vip caption", view={"width": int(width), "height": int(height)}, regions=regions)


def _of_presets(names: tuple[str, ...], size: str | None, keeps: tuple[float, ...]) -> "Bank":
    from schemas.bank import Bank
    from schemas.errors import VipError
    from schemas.evaluate_config import PRESETS

    unknown = [name for name in names if name not in PRESETS]
    if unknown:
        raise VipError(f"--preset {unknown[0]} is unknown", f"choose of {', '.join(PRESETS)}")
    views = list(dict.fromkeys(PRESETS[name][0] for name in names))
    if len(views) > 1:
        raise VipError(f"the presets are of {' and '.join(view.id for view in views)}", "caption one size at a time")
    if size or keeps:
        raise VipError(f"--preset and --{'view' if size else 'keep'} are both given", "a preset names view and region")
    return Bank(view=views[0], regions=tuple(PRESETS[name][1] for name in names))
