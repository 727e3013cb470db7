"""``vip nano``: the small models of the drawn world."""

import click


@click.group()
def command() -> None:
    """Train or score the small models of the drawn world."""


__all__ = ["command"]
