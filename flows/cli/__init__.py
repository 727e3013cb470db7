"""The ``vip`` command line: one file a command, imported when it is called."""

from flows.cli.main import main

__all__ = ["main"]
