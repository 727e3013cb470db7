"""``vip audit``: where a caption, an image, a checkpoint or a number came from; whether everything still stands."""

import click

from flows.cli.audit import effect, trace, whole


@click.group()
def command() -> None:
    """Ask where a caption, image, checkpoint or number came from; verify everything.

    Ids may be cut to any unique prefix of four digits or more; artifacts may be given by ref (`vip ref list`).
    """


for one in (
    trace.caption,
    trace.image,
    trace.checkpoint,
    trace.picture,
    trace.metric,
    trace.log,
    effect.impact,
    effect.diff,
    effect.stale,
    whole.verify,
    whole.reindex,
):
    command.add_command(one)
