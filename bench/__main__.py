"""``make bench``: run every benchmark of this folder, or those named.

python -m bench [--quick] [NAME ...]
"""

import argparse
import importlib
import pkgutil

import bench
from flows.cli.main import hush_libraries


def main() -> None:
    """Run ``main(quick)`` of each module of this package."""
    names = sorted(module.name for module in pkgutil.iter_modules(bench.__path__) if not module.name.startswith("_"))
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of: {', '.join(names)}")
    parser.add_argument("--quick", action="store_true", help="small inputs, to see that everything runs")
    options = parser.parse_args()
    for unknown in set(options.names) - set(names):
        parser.error(f"no benchmark named {unknown}; there are: {', '.join(names)}")
    hush_libraries()
    for name in options.names or names:
        print(f"\n== {name}", flush=True)
        importlib.import_module(f"bench.{name}").main(quick=options.quick)


if __name__ == "__main__":
    main()
