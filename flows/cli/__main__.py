"""``python -m flows.cli`` is ``vip``."""

from flows.cli.process import main

main()
