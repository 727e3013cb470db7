"""The command line as its users run it: a process of its own."""

import json
import os
import subprocess
import sys

SIZE = 60
"""Images of a small demo."""


def environment():
    """Ours without Prefect's settings: other tests of this process may have left those of a server that is gone."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}


def vip(*arguments, root, check=True):
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli", *arguments, "--root", str(root)],
        capture_output=True,
        text=True,
        timeout=560,
        check=False,
        env=environment(),
    )
    assert not check or done.returncode == 0, done.stderr[-3000:]
    return done


def demo(root, *more):
    return json.loads(vip("demo", "--size", str(SIZE), "--steps", "6", "--json", *more, root=root).stdout)


def stage(result, name):
    return next(one for one in result["summary"]["stages"] if one["name"] == name)
