"""Split lists: files that say by name which images are for training and which are for test, as WikiArt's do."""

import csv
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from schemas.errors import VipError
from schemas.sharding import RejectReason, ShardSettings
from storage.items import Hidden, Item, Unread

Found = Item | Unread | Hidden


class SplitLists:
    """The names of a training and a test list, and what a walk did with them.

    A list is text or CSV; the first field of a line is an image's name relative to the source. A name in both is for
    test. Images on no list stay out: a field's split may be a part of what lies in the folder.

    Attributes:
        left_out: images that no list named, so far.
    """

    def __init__(self, train: Path | None, test: Path | None) -> None:
        self._split = {name: split for split, path in (("train", train), ("test", test)) for name in _names(path)}
        self._unseen = set(self._split)
        self.left_out = 0

    @classmethod
    def of(cls, settings: ShardSettings) -> "SplitLists | None":
        """Those that the settings name; None where they name none.

        Raises:
            VipError: where one cannot be read, or names nothing.
        """
        if settings.train_list is None and settings.test_list is None:
            return None
        lists = cls(*(Path(path).expanduser() if path else None for path in (settings.train_list, settings.test_list)))
        if not lists._split:
            raise VipError("the split lists name no image", "give one name a line, relative to the source")
        return lists

    def choose(self, found: Iterable[Found]) -> Iterator[Found]:
        """A walk with the listed images only, each with its split; then every listed name that did not come, unread."""
        for one in found:
            if not isinstance(one, Item):
                yield one
            elif one.name in self._split:
                self._unseen.discard(one.name)
                yield replace(one, split=self._split[one.name])
            else:
                self.left_out += 1
        for name in sorted(self._unseen):
            yield Unread(name, RejectReason.MISSING, f"on the {self._split[name]} list, but not in the source")


def _names(path: Path | None) -> list[str]:
    if path is None:
        return []
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            return [row[0].strip().removeprefix("./") for row in csv.reader(file) if row and row[0].strip()]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise VipError(f"split list {path} cannot be read: {error}", "give a text or CSV file of names") from error
