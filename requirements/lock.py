"""Write requirements/hashes/: the pins of every list again, each with the hashes of all its files.

``make lock`` runs it after a change of a pin; a test compares the two. The index is asked for hashes only, nothing is
resolved and nothing downloaded. ``hashes/torch-cpu.txt`` is written by hand, since the index does not have that build.
"""

import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
LISTS = ("build", "pipeline", "cuda", "kubernetes", "tools", "serve-cpu", "serve-gpu")


def pins(path: Path) -> list[str]:
    """The lines ``name==version`` of a list, in its order."""
    lines = (line.partition("#")[0].strip() for line in path.read_text().splitlines())
    return [line for line in lines if line]


def normal(pin: str) -> str:
    """``name==version`` with the name as indexes compare it."""
    name, version = pin.split("==")
    return f"{re.sub(r'[-_.]+', '-', name).lower()}=={version}"


def locked(path: Path) -> dict[str, list[str]]:
    """Pin -> SHA-256 digests, as a file of hashes says."""
    found: dict[str, list[str]] = {}
    for line in path.read_text().splitlines():
        if line[:1].isalnum():
            hashes = found[normal(line.split()[0])] = []
        elif "--hash=sha256:" in line:
            hashes.append(line.split("--hash=sha256:")[1].split()[0])
    return found


def lock(name: str) -> None:
    """Write the hashes of one list."""
    source, target = HERE / f"{name}.txt", HERE / "hashes" / f"{name}.txt"
    uv = Path(sys.executable).with_name("uv")
    command = [str(uv), "pip", "compile", "--quiet", "--no-deps", "--generate-hashes", "--no-annotate", "--no-header"]
    command += ["--python-version", "3.11", "--python-platform", "linux"]
    said = subprocess.run([*command, str(source)], check=True, capture_output=True, text=True).stdout  # noqa: S603
    target.parent.mkdir(exist_ok=True)
    target.write_text(f"# Written by `make lock` from ../{name}.txt.\n{said}")


if __name__ == "__main__":
    for each in LISTS:
        lock(each)
