"""Changes: the names under which two records differ."""

import json
from collections.abc import Iterator
from typing import Any


def changed(first: dict[str, Any], second: dict[str, Any]) -> Iterator[tuple[str, tuple[Any, Any]]]:
    """Names whose values differ, with both values."""
    for name in sorted(first.keys() | second.keys()):
        pair = first.get(name), second.get(name)
        if pair[0] != pair[1]:
            yield name, pair


def flat(value: Any, path: str = "") -> dict[str, Any]:
    """Nested dictionaries as one, ``{"spec": {"model": {"id": 1}}}`` as ``{"spec.model.id": 1}``."""
    if not isinstance(value, dict):
        return {path: value if not isinstance(value, list) else json.dumps(value)}
    found: dict[str, Any] = {}
    for name, one in value.items():
        found |= flat(one, f"{path}.{name}" if path else name)
    return found
