"""``vip serve``: a vLLM server for captioning."""

import time
from pathlib import Path

import click

from flows.cli.common import print_json, shared_options


@click.command()
@click.option("--model", default="nano", show_default=True, help="nano, a hub id, or a local folder.")
@click.option("--port", type=click.IntRange(1, 65535), help="TCP port. [default: a free one]")
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Address; beyond loopback VIP_API_KEY must be set."
)
@click.option("--max-model-len", type=click.IntRange(64), help="Context in tokens. [default: 256 for nano]")
@click.option("--dtype", default="auto", show_default=True, help="As vLLM names it; nano runs in float32.")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@shared_options
def command(
    model: str,
    port: int | None,
    host: str,
    max_model_len: int | None,
    dtype: str,
    arguments: tuple[str, ...],
    root: str,
    as_json: bool,
) -> None:
    """Serve a captioning model with vLLM until Ctrl-C, and print the endpoint when it answers.

    It is served under a name that carries the digest of its weights. What follows `--` goes to vLLM.
    """
    from flows.console import console
    from flows.run import scratch_folder
    from vip.serving.engine import Engine

    nano = model == "nano"
    log = scratch_folder(root) / "logs" / "serve.log"
    console.quiet = as_json
    engine = Engine(
        model,
        log=log,
        model_id=Path(model).name,
        port=port,
        host=host,
        dtype="float32" if nano else dtype,
        max_model_len=max_model_len or (256 if nano else None),
        eager=nano,
        arguments=arguments,
    )
    console.say(f"starting vLLM for {model}; its log is {log}")
    with engine:
        if as_json:
            print_json({"endpoint": engine.endpoint, "model": engine.served_name, "log": str(log)})
        else:
            click.echo(f"endpoint  {engine.endpoint}\nmodel     {engine.served_name}")
        while True:
            engine.check()
            time.sleep(1)
