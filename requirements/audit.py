"""Ask an advisory database for known vulnerabilities of every pin; ``make audit``.

Exit codes: 0 none is known, 1 some are, 2 no database answered, so that nothing is known. Further arguments go to
pip-audit, such as ``--ignore-vuln ID`` or ``--osv-url URL`` for a mirror.
"""

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from lock import HERE, LISTS


def audit(name: str, options: Sequence[str] = ()) -> int:
    """Ask for one list; prints what pip-audit found, or one line where it could not ask."""
    # --strict: a package that the database could not be asked for is an error, not a remark.
    command = [str(Path(sys.executable).with_name("pip-audit")), "--strict", "--disable-pip", "--require-hashes"]
    command += ["--progress-spinner", "off", "--vulnerability-service", "osv", *options]
    done = subprocess.run([*command, "-r", str(HERE / "hashes" / f"{name}.txt")], capture_output=True, text=True)  # noqa: S603
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    found = any(re.match(r"Found \d+ known vulnerab", line) for line in lines)
    if done.returncode and not found:
        why = lines[-1][-300:] if lines else f"exit code {done.returncode}"
        print(f"audit: nothing is known about {name}: {why}", file=sys.stderr)  # noqa: T201
        return 2
    print(f"{name}: {lines[-1]}\n{done.stdout}".rstrip())  # noqa: T201
    return int(found)


if __name__ == "__main__":
    sys.exit(max(audit(each, sys.argv[1:]) for each in LISTS))
