"""Runs captioning in a forked child of its own session for every line on standard input, to be killed at any moment.

A line is JSON: root, dataset key, spec, bank, endpoint, scratch. The answer is the child's pid; the child exits with 0
when all captions are made.
"""

import json
import os
import sys
import traceback
from pathlib import Path

from schemas.bank import Bank
from schemas.spec import CaptionSpec
from storage.store import ArtifactStore
from tests.vip.captioning.helpers import run
from vip.captioning.endpoint import ClientSettings


def work(order: dict) -> None:
    store = ArtifactStore(order["root"])
    dataset = store.get("dataset", order["dataset"])
    spec, bank = CaptionSpec.model_validate(order["spec"]), Bank.model_validate(order["bank"])
    settings = ClientSettings(deadline=10.0, publish_every=0.1, first_in_flight=16, **order.get("settings", {}))
    run(store, dataset, spec, [order["endpoint"]], Path(order["scratch"]), bank, settings=settings)


def main() -> None:
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            os.setsid()
            try:
                work(json.loads(line))
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        print(pid, flush=True)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
