"""The process that ``vip`` is: from its first moment on a signal ends it with one line."""

import logging

from flows.cli import interruption
from flows.cli.ending import decided


def main() -> None:
    """Run ``vip`` with the arguments of this process."""
    interruption.listen()
    logging.raiseExceptions = False  # a line that cannot be sent to Prefect's page is no matter for the terminal
    with decided():
        try:
            from flows.cli.main import main as run

            run()
        except KeyboardInterrupt:
            interruption.leave()
        except Exception as error:
            if interruption.is_behind(error):
                interruption.leave()
            raise
        finally:
            interruption.over()
