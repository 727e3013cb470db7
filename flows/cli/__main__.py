"""``python -m flows.cli`` is ``vip``."""

from flows.cli.main import main

main()
