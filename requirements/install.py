"""Install lists of pins by their hashes, for the Python that runs this: ``install.py build torch-cpu pipeline``.

A list is a file of ``requirements/hashes/``. A file with another hash than the list says ends it with exit code 1.
"""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

HASHES = Path(__file__).resolve().parent / "hashes"
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "-qq", "install", "--no-deps")
# Without isolation what is built from source is built by what is installed already; else pip fetches tools unseen.
CHECKED = ("--no-build-isolation", "--require-hashes")


def install(file: Path, options: Sequence[str] = ()) -> int:
    """Install exactly what ``file`` lists; the exit code of pip."""
    return subprocess.run([*PIP, *CHECKED, *options, "-r", str(file)]).returncode  # noqa: S603


def is_found(pin: str) -> bool:
    """Whether pip finds a wheel for this pin, whatever its hash."""
    command = [*PIP, "--only-binary=:all:", "--dry-run", pin]
    return subprocess.run(command, capture_output=True).returncode == 0  # noqa: S603


if __name__ == "__main__":
    for name in sys.argv[1:]:
        # Before what needs it, and alone: from the hashes of all builds pip would take the index's, which is CUDA's.
        if name == "torch-cpu" and not is_found("torch==2.13.0+cpu"):
            print("pip finds no CPU build of torch 2.13.0 and takes the CUDA build (docs/security.md)", file=sys.stderr)  # noqa: T201
            name = "cuda"
        if install(HASHES / f"{name}.txt"):
            sys.exit(f"install: {name} was not installed, see above (HASHES=no takes the same versions unchecked)")
