"""``vip serve``: a vLLM server for captioning."""

import contextlib
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from flows.cli.common import print_json, shared_options

if TYPE_CHECKING:
    from vip.serving.replicas import Replicas


@click.command()
@click.option("--model", default="nano", show_default=True, help="nano, a hub id, or a local folder.")
@click.option("--port", type=click.IntRange(1, 65535), help="TCP port, of the first replica. [default: free ones]")
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Address; beyond loopback VIP_API_KEY must be set."
)
@click.option("--max-model-len", type=click.IntRange(64), help="Context in tokens. [default: 256 for nano]")
@click.option("--dtype", default="auto", show_default=True, help="As vLLM names it; auto is that of the checkpoint.")
@click.option("--quantization", default="", help="As vLLM names it. [default: as the checkpoint is]")
@click.option("--replicas", type=click.IntRange(1, 64), default=1, show_default=True, help="Servers on this host.")
@click.option(
    "--endpoints-file",
    type=click.Path(path_type=Path),
    help="Names the endpoints that live, for vip caption; several may keep one file.",
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@shared_options
def command(
    model: str,
    port: int | None,
    host: str,
    max_model_len: int | None,
    dtype: str,
    quantization: str,
    replicas: int,
    endpoints_file: Path | None,
    arguments: tuple[str, ...],
    root: str,
    as_json: bool,
) -> None:
    """Serve a captioning model with vLLM until Ctrl-C, and print the endpoints when they answer.

    It is served under a name that carries the digest of its weights, dtype and quantization. What follows `--`
    goes to vLLM, such as `-- --data-parallel-size 4`; where it can change an answer the name says so too.
    Replicas take ports that follow --port, and equal parts of the GPUs.
    """
    from flows.console import console
    from flows.run import scratch_folder
    from vip.serving.engine import Engine
    from vip.serving.replicas import Replicas

    logs = scratch_folder(root) / "logs"
    console.quiet = as_json

    def make(number: int, at: int, devices: str | None) -> Engine:
        return Engine(
            model,
            log=logs / ("serve.log" if replicas == 1 else f"serve-{number}.log"),
            port=at,
            host=host,
            dtype=dtype,
            quantization=quantization,
            max_model_len=max_model_len,
            arguments=arguments,
            devices=devices,
        )

    serving = Replicas(make, replicas, port)
    engines = serving.engines
    if endpoints_file:  # before the minutes that a start takes: it must be one that can be written
        endpoints_file.parent.mkdir(parents=True, exist_ok=True)
        _name(endpoints_file, serving.endpoints, ())
    console.say(f"starting vLLM for {model}; its log is {', '.join(str(engine.log) for engine in engines)}")
    with serving, _kept(endpoints_file, serving) as keep:
        if as_json:
            first = engines[0]
            told = {"endpoint": first.endpoint, "model": first.served_name, "log": str(first.log)}
            print_json({**told, "endpoints": serving.endpoints, "logs": [str(engine.log) for engine in engines]})
        else:
            for engine in engines:
                click.echo(f"endpoint  {engine.endpoint}")
            click.echo(f"model     {engines[0].served_name}")
        while True:
            for line in serving.fallen():
                keep()
                click.echo(f"vip: {line}", err=True)
            time.sleep(1)


@contextlib.contextmanager
def _kept(file: Path | None, serving: "Replicas") -> Iterator[Callable[[], None]]:
    """Name the endpoints that live in ``file`` now and at each call; none of ours are left in it at the end.

    Those of others, who keep the same file for engines of theirs, stay.
    """
    ours = set(serving.endpoints)

    def keep() -> None:
        if file is not None:
            _name(file, ours, serving.endpoints)

    keep()
    try:
        yield keep
    finally:
        if file is not None:
            _name(file, ours, ())


def _name(file: Path, ours: Collection[str], living: Iterable[str]) -> None:
    from schemas.endpoints import Endpoints
    from storage.lock import locked
    from vip.captioning.discovery import find_endpoints

    with locked(file.with_name(f".{file.name}.lock")):
        named = find_endpoints(Endpoints(file=str(file))) if file.exists() else []
        fresh = file.with_name(f".{file.name}.new")
        fresh.write_text("".join(f"{url}\n" for url in [*(url for url in named if url not in ours), *living]))
        fresh.replace(file)  # whoever reads it sees the old list or the new one
