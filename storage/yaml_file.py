"""Read a YAML file that somebody else may have written: data only, bounded, one line for whatever is wrong."""

from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from schemas.errors import VipError

MOST_BYTES = 1 << 20
MOST_VALUES = 100_000
MOST_DEPTH = 50


def read_yaml(path: Path, what: str = "config") -> Any:
    """The one document of a YAML file, None where it is empty.

    Anchors and merge keys work; no tag makes an object, and what aliases expand to is counted before anything is built.

    Args:
        path: the file.
        what: how an error calls it.

    Raises:
        VipError: where the file is missing, no regular file, larger than 1 MiB, no UTF-8 or no YAML, names a key twice,
            contains itself, is nested more than 50 deep or expands to more than 100,000 values.
    """
    text = _read(path, what)
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _Count(path, what).of(node)
        return loader.construct_document(node)
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise VipError(f"{what} {path} is no YAML: {' '.join(str(error).split())[:300]}", "mend the file") from error
    except RecursionError:
        raise VipError(f"{what} {path} is nested too deep", f"{MOST_DEPTH} levels are the most") from None


def _read(path: Path, what: str) -> str:
    try:
        if path.exists() and not path.is_file():
            raise VipError(f"{what} {path} is no regular file", "give the path of a YAML file")
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise VipError(f"{what} {path} cannot be read: {error.strerror}", "give the path of a YAML file") from error
    if len(data) > MOST_BYTES:
        raise VipError(f"{what} {path} is larger than {MOST_BYTES >> 20} MiB", "no config is; check the path")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise VipError(f"{what} {path} is no YAML: it is no UTF-8 at byte {error.start}", "mend the file") from error


class _Count:
    """Counts what a document expands to; every anchored part once, so that a bomb is counted and not built."""

    def __init__(self, path: Path, what: str) -> None:
        self._name = f"{what} {path}"
        self._counted: dict[int, int] = {}
        self._open: set[int] = set()

    def of(self, node: yaml.Node) -> int:
        """Number of values below and with ``node``.

        Raises:
            VipError: where there are too many, a mapping has a key twice, or a part contains itself.
        """
        known = self._counted.get(id(node))
        if known is not None:
            return known
        if id(node) in self._open:
            raise VipError(f"{self._name}: an anchor contains itself", "write the values out")
        if len(self._open) >= MOST_DEPTH:
            raise VipError(f"{self._name} is nested too deep", f"{MOST_DEPTH} levels are the most")
        self._open.add(id(node))
        count = 1 + sum(self.of(child) for child in self._children(node))
        self._open.discard(id(node))
        if count > MOST_VALUES:
            raise VipError(f"{self._name} expands to more than {MOST_VALUES:,} values", "write the values out")
        self._counted[id(node)] = count
        return count

    def _children(self, node: yaml.Node) -> list[yaml.Node]:
        if isinstance(node, yaml.MappingNode):
            keys = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.value != "<<")
            key, times = keys.most_common(1)[0] if keys else ("", 0)
            if times > 1:
                raise VipError(f"{self._name}: {key[:80]} stands twice", "leave one of them out")
            return [part for pair in node.value for part in pair]
        return node.value if isinstance(node, yaml.SequenceNode) else []
