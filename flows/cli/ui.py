"""``vip ui``: Prefect's page on the runs of a root."""

import time

import click

from flows.cli.common import print_json, shared_options
from schemas.errors import VipError


@click.command()
@shared_options
def command(root: str, as_json: bool) -> None:
    """Serve Prefect's page on the runs of this root until Ctrl-C."""
    from flows.run import prefect_home
    from flows.server import prefect_server

    home = prefect_home(root)
    if not home.exists():
        raise VipError(f"{root} holds no runs yet", "run `vip demo` first")
    with prefect_server(home, home / "server.log") as url:
        page = url.removesuffix("/api")
        print_json({"page": page}) if as_json else click.echo(page)
        while True:
            time.sleep(3600)
