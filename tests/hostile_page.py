"""The page of hostile input in the docs: every test file owns a section, and compares it with what it found.

``VIP_WRITE_DOCS=1`` with the tests of a section writes that section anew.
"""

import os
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "hostile-input.md"


def compare_section(title: str, text: str, outcomes: dict[str, str]) -> None:
    """Assert that the section ``## title`` of the page says ``text`` and exactly these outcomes, in this order."""
    rows = "".join(f"| {name} | {outcome} |\n" for name, outcome in outcomes.items())
    wanted = f"## {title}\n\n{text}\n\n| kind | outcome |\n|---|---|\n{rows}"
    page = PAGE.read_text()
    before, _, rest = page.partition(f"## {title}\n")
    following = rest.find("\n## ")
    after = rest[following:] if following >= 0 else ""
    if os.environ.get("VIP_WRITE_DOCS"):
        page = (before if before.endswith("\n\n") else before + "\n") + wanted + after
        PAGE.write_text(page)
    found = page[page.index(f"## {title}\n") :]
    end = found.find("\n## ")
    assert (found[: end if end >= 0 else None]).rstrip("\n") == wanted.rstrip("\n")
