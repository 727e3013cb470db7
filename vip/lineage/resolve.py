"""From what a person types (a ref, a unique prefix, a file) to what is meant."""

import contextlib
import hashlib
import re
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from schemas.errors import VipError
from vip.lineage import graph
from vip.lineage.index import LineageIndex
from vip.lineage.rows import read_row

if TYPE_CHECKING:
    import pyarrow as pa

_HEX = re.compile(r"[0-9a-f]{4,64}")
_SHOWN = 5
_FOLDERS = {"caption_set": "captions"}


def ref_folder(kind: str) -> str:
    """The folder of the refs of a kind."""
    return _FOLDERS.get(kind, kind)


def is_prefix(text: str) -> bool:
    """Whether ``text`` may be the beginning of an id: 4 to 64 hex digits."""
    return _HEX.fullmatch(text.lower()) is not None


def resolve_artifact(index: LineageIndex, text: str, kinds: Sequence[str] = ()) -> sqlite3.Row:
    """The artifact meant by a ref, by ``kind/prefix``, or by a unique prefix of its key or digest.

    Args:
        index: the index to look in.
        text: what the person typed.
        kinds: the kinds that make sense here; empty for any.

    Raises:
        VipError: where nothing, or more than one artifact, fits.
    """
    what = kinds[0] if len(kinds) == 1 else "artifact"
    # A bare name is enough where one kind makes sense: `scenes` for the checkpoint `checkpoint/scenes`.
    target = _by_ref(index, f"{ref_folder(what)}/{text}") if len(kinds) == 1 else None
    target = target or _by_ref(index, text)
    if target is None:
        found = artifacts_fitting(index, text, kinds)
        if len(found) > 1:
            some = ", ".join(f"{row['kind']}/{row['key'][:16]}" for row in found[:_SHOWN])
            raise VipError(f"'{text}' fits {len(found)} artifacts ({some})", "give more digits")
        if not found:
            raise VipError(f"no {what} is called '{text}'", _hint(index, kinds))
        target = found[0]
    if kinds and target["kind"] not in kinds:
        raise VipError(f"'{text}' is of kind {target['kind']}, not {' or '.join(kinds)}", "give another id")
    return target


def _hint(index: LineageIndex, kinds: Sequence[str]) -> str:
    if len(kinds) != 1:
        return "give a ref (`vip ref list`) or 4 or more digits of its id"
    from storage.refs import Refs

    folder = ref_folder(kinds[0])
    known = [name for name in Refs(index.backend).names() if name.startswith(f"{folder}/")]
    return f"there are: {', '.join(known[:_SHOWN])}" if known else f"this root has no {folder} yet"


def _by_ref(index: LineageIndex, text: str) -> sqlite3.Row | None:
    if not index.backend.exists(f"refs/{text}/00000001.json"):
        return None
    from storage.refs import Refs

    target = Refs(index.backend).get(text)
    if target is None:
        return None
    number = graph.node(index, target.kind, target.key)
    if number is None:
        raise VipError(
            f"ref {text} points at {target.kind} {target.key[:12]}, which is not in this root",
            "run `vip audit verify`",
        )
    return graph.artifact(index, number)


def resolve_live(index: LineageIndex, text: str, kinds: Sequence[str] = ()) -> sqlite3.Row:
    """As :func:`resolve_artifact`, for those who need its files.

    Raises:
        VipError: also where it was removed, or cannot be read.
    """
    return require_live(resolve_artifact(index, text, kinds))


def require_live(row: sqlite3.Row) -> sqlite3.Row:
    """The artifact, whose files are wanted.

    Raises:
        VipError: where it was removed, or cannot be read.
    """
    if row["state"] != "live":
        raise VipError(f"{row['kind']} {row['key'][:12]} does not stand: {row['problem']}", "give another one")
    return row


def artifacts_fitting(index: LineageIndex, text: str, kinds: Sequence[str] = ()) -> list[sqlite3.Row]:
    """Every artifact whose key or digest begins with ``text``, or with what follows the kind in ``kind/prefix``."""
    kind, _, prefix = text.rpartition("/")
    kinds, prefix = (kind,) if kind else kinds, prefix.lower()
    rows: dict[int, sqlite3.Row] = {}
    for column in ("key", "digest") if _HEX.fullmatch(prefix) else ():
        for row in index.db.execute(
            f"SELECT * FROM artifact WHERE {column} >= ? AND {column} < ?",  # noqa: S608 - one of two names
            (prefix, prefix + "g"),
        ):
            if not kinds or row["kind"] in kinds:
                rows[row["id"]] = row
    return list(rows.values())


def resolve_caption(index: LineageIndex, text: str) -> tuple[bytes, list[sqlite3.Row]]:
    """The caption meant by a unique prefix of its id.

    Returns:
        Its packed id and the rows that hold it, the newest artifact first, accepted before rejected.

    Raises:
        VipError: where nothing, or more than one caption, fits.
    """
    found = _packed(index, "SELECT DISTINCT id FROM caption WHERE id BETWEEN ? AND ? LIMIT 6", text, "caption")
    rows = index.db.execute(
        """SELECT caption.*, artifact.key, artifact.state FROM caption JOIN artifact ON artifact.id = caption.artifact
        WHERE caption.id = ? ORDER BY caption.rejected, artifact.started DESC""",
        (found,),
    ).fetchall()
    return found, rows


def resolve_image(index: LineageIndex, text: str) -> tuple[bytes, Path | None]:
    """The image meant by a file (its bytes count, not its name), a unique prefix of its SHA-256, or a name it had.

    Returns:
        The first 16 bytes of its SHA-256, and the file where one was given.

    Raises:
        VipError: where nothing, or more than one image, fits.
    """
    path = named_file(text)
    if path is not None:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()[:16], path
    if not _HEX.fullmatch(text.lower()):
        return _by_name(index, text), None
    query = """SELECT image FROM (SELECT image FROM sample WHERE image BETWEEN ?1 AND ?2 UNION
        SELECT image FROM caption WHERE image BETWEEN ?1 AND ?2) LIMIT 6"""
    found = _packed(index, query, text, "image")
    # The index holds the first half of the hash; what goes beyond it is compared with the whole.
    if len(text) > 32 and not whole_sha256(index, found).startswith(text.lower()):
        raise VipError(f"no image has an id that begins with {text.lower()}", "check the id and --root")
    return found, None


def whole_sha256(index: LineageIndex, image: bytes) -> str:
    """The whole SHA-256 of an image that the root knows, from the half of it that the index holds."""
    for query, tables in (
        ("SELECT artifact, row, 0 FROM sample WHERE image = ? LIMIT 1", ("samples.parquet",)),
        (
            "SELECT artifact, row, rejected FROM caption WHERE image = ? LIMIT 1",
            ("captions.parquet", "rejects.parquet"),
        ),
    ):
        place = index.db.execute(query, (image,)).fetchone()
        if place is not None:
            return str(read_row(index, graph.artifact(index, place[0]), tables[place[2]], place[1])["image_sha256"])
    # Taken down before: the version of the dataset that held it still has its name.
    return next(sha256 for sha256, _ in names(index) if sha256.startswith(image.hex()))


def named_file(text: str) -> Path | None:
    """The file that ``text`` names, or None."""
    with contextlib.suppress(OSError):  # too long for a file's name, as a prompt may be
        if Path(text).is_file():
            return Path(text)
    return None


def _packed(index: LineageIndex, query: str, text: str, what: str) -> bytes:
    text = text.lower()
    if not _HEX.fullmatch(text):
        raise VipError(f"'{text}' is no id of {'an' if what == 'image' else 'a'} {what}", "give 4 or more hex digits")
    low, high = bytes.fromhex(text[:32].ljust(32, "0")), bytes.fromhex(text[:32].ljust(32, "f"))
    found = [row[0] for row in index.db.execute(query, (low, high))]
    if not found:
        raise VipError(f"no {what} has an id that begins with {text}", "check the id and --root")
    if len(found) > 1:
        raise VipError(
            f"{text} fits more than one {what} ({', '.join(one.hex()[:16] for one in found[:_SHOWN])})",
            "give more digits",
        )
    return found[0]


def _by_name(index: LineageIndex, name: str) -> bytes:
    images = {image for image, known in names(index) if known == name}
    if not images:
        raise VipError(f"{name} is no file, no image id and no name in a dataset", "check the path and --root")
    if len(images) > 1:
        raise VipError(f"{name} named {len(images)} images over time", "give the SHA-256 of the one that is meant")
    return bytes.fromhex(images.pop()[:32])


def names(index: LineageIndex) -> Iterator[tuple[str, str]]:
    """(image, name) of every dataset that stands."""
    for _, table in names_tables(index, ["image_sha256", "name"]):
        yield from zip(table.column(0).to_pylist(), table.column(1).to_pylist(), strict=True)


def names_tables(index: LineageIndex, columns: list[str]) -> Iterator[tuple[int, "pa.Table"]]:
    """The number and the names table, columns of :data:`schemas.tables.NAMES`, of every dataset that stands."""
    from schemas.tables import NAMES
    from storage.tables import read_table

    for row in index.db.execute("SELECT * FROM artifact WHERE kind = 'dataset' AND state = 'live'"):
        path = f"{graph.folder(row)}/names.parquet"
        local = index.backend.local_path(path)
        yield row["id"], read_table(local or index.backend.get(path), NAMES, columns)


def live_shards(index: LineageIndex, number: int) -> list[sqlite3.Row]:
    """The shards of a dataset, by prefix.

    Raises:
        VipError: where one of them was removed.
    """
    shards = [graph.artifact(index, row["id"]) for row in graph.inputs(index, number) if row["kind"] == "shard"]
    for shard in shards:
        if shard["state"] != "live":
            raise VipError(
                f"shard {shard['key'][:12]} does not stand: {shard['problem']}", "give the dataset's next version"
            )
    return shards
