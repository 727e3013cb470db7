"""``make bench``: run every benchmark of this folder, or those named.

python -m bench [--quick] [NAME ...]
"""

import argparse
import importlib
import pkgutil
import subprocess
import sys

import bench
from flows.cli.main import hush_libraries


def main() -> None:
    """Run ``main(quick)`` of one module of this package, or of several, each in a process of its own.

    What one has loaded is no memory of another, and one that fails leaves the others to run.
    """
    names = sorted(module.name for module in pkgutil.iter_modules(bench.__path__) if not module.name.startswith("_"))
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of: {', '.join(names)}")
    parser.add_argument("--quick", action="store_true", help="small inputs, to see that everything runs")
    options = parser.parse_args()
    for unknown in set(options.names) - set(names):
        parser.error(f"no benchmark named {unknown}; there are: {', '.join(names)}")
    if len(options.names) == 1:
        hush_libraries()
        importlib.import_module(f"bench.{options.names[0]}").main(quick=options.quick)
        return
    failed = []
    for name in options.names or names:
        print(f"\n== {name}", flush=True)
        command = [sys.executable, "-m", "bench", name, *(["--quick"] if options.quick else [])]
        if subprocess.run(command, check=False).returncode:
            failed.append(name)
    if failed:
        parser.exit(1, f"\nfailed: {', '.join(failed)}\n")


if __name__ == "__main__":
    main()
