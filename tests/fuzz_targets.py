"""What is fuzzed: readers of what others wrote, good inputs to begin with, and what each reader promises.

``read`` raises what the reader does not promise. A ``VipError`` is promised everywhere: it is one line for a person.
"""

import contextlib
import io
import json
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from schemas.errors import VipError
from schemas.manifest import Recipe
from schemas.retrain_config import RetrainConfig
from schemas.sharding import ShardSettings
from schemas.tables import ANSWERS
from storage.answers import Answers
from storage.backend import Backend
from storage.journal import recover
from storage.parquet_images import walk_parquet
from storage.refs import Refs
from storage.store import ArtifactStore
from storage.tables import read_table
from storage.tars import walk_tar
from vip.lineage.verify import verify
from vip.sharding.inspect import inspect_image

SETTINGS = ShardSettings(name="fuzz")


@dataclass(frozen=True)
class Target:
    """A reader.

    Attributes:
        name: what it reads.
        make_seeds: good inputs.
        read: reads bytes; raises what the reader does not promise.
    """

    name: str
    make_seeds: Callable[[], list[bytes]]
    read: Callable[[bytes], None]

    @cached_property
    def seeds(self) -> list[bytes]:
        """Good inputs to begin with."""
        return self.make_seeds()


_FOLDER = tempfile.TemporaryDirectory(prefix="vip-fuzz-")
PLACE = Path(_FOLDER.name)


def _file(name: str, data: bytes) -> Path:
    (PLACE / name).parent.mkdir(parents=True, exist_ok=True)
    (PLACE / name).write_bytes(data)
    return PLACE / name


# Answers: whatever a server sends becomes an answer that a segment can hold, or is malformed.


def _answer_bodies() -> list[bytes]:
    texts = ["Center: a wolf; Surrounding: a meadow", '{"centre": "a", "surrounding": "b"}', "I'm sorry, I can't."]
    return [
        json.dumps(
            {
                "model": "fake",
                "choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 40, "completion_tokens": 12},
            }
        ).encode()
        for text in texts
    ]


def read_answer(data: bytes) -> None:
    """A body: reply, the row of it in the schema of segments, and what the parser makes of the text."""
    import orjson

    from tests.vip.captioning.helpers import make_spec
    from vip.captioning.parse import read_answer as parse
    from vip.captioning.reply import error_text, read_reply

    request = _request()
    error_text(500, data)
    try:
        reply, _ = read_reply(request, data)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        return
    row = reply.answer("fake", "vllm 0")
    kept = json.loads(orjson.dumps(row))
    pa.Table.from_pylist([{**kept, "answered_at": row["answered_at"]}], schema=ANSWERS)
    for parser in ("keywords", "json"):
        for part in ("joint", "centre", "surrounding"):
            parse(make_spec(_tokenizer(), parser=parser), part, reply.text, reply.finish_reason, reply.error)


def _tokenizer() -> Path:
    from tests.vip.captioning.helpers import make_tokenizer

    folder = PLACE / "tokenizer"
    return folder if folder.exists() else make_tokenizer(folder)


_REQUEST = None


def _request():
    global _REQUEST
    if _REQUEST is None:
        from tests.vip.captioning.helpers import BANK, make_dataset, make_spec, write_images
        from vip.captioning.plan import dataset_shards, open_rows
        from vip.captioning.project import make_judge

        store = ArtifactStore(PLACE / "answers-root")
        dataset = make_dataset(store, write_images(PLACE / "images", 2), bits=1)
        judge = make_judge(make_spec(_tokenizer()))
        prefix, shard = next(iter(dataset_shards(dataset).items()))
        _REQUEST = next(iter(open_rows(store, prefix, shard, judge, BANK)))[1][0]
    return _REQUEST


# Configs and specs.

CONFIG = b"""source: images
shard: {name: scenes, bits: 2}
caption: &c {spec: nano-joint, model: nano, gate: {rejected: 0.5}}
train: {steps: 3, warmup: 1, regions: {'centre-*': 1.0}}
evaluate: {settings: [oracle], images: 3}
"""
SPEC = b"""strategy: split
model: {id: nano}
templates: {centre: "Describe {box}.", surrounding: "Describe."}
sampling: {temperature: 0.0, max_tokens: 64}
budget: {over: reask}
"""


def read_config(data: bytes) -> None:
    """A config and a spec: a model, or one line."""
    from flows.cli.common import load_config
    from vip.captioning.specs import load_spec

    path = _file("config.yaml", data)
    with contextlib.suppress(VipError):
        load_config(path, RetrainConfig)
    with contextlib.suppress(VipError):
        load_spec(str(path))


# Tars, Parquet, images: items and typed rejects, never an exception.


def _tars() -> list[bytes]:
    found = []
    for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=form) as tar:
            for name in ("a.jpg", "b/c.png", "d" * 60 + "/" + "n" * 60 + ".jpg", "\u00fc.txt"):
                info = tarfile.TarInfo(name)
                info.size = 30
                tar.addfile(info, io.BytesIO(b"x" * 30))
        found.append(out.getvalue())
    return found


def read_tar(data: bytes) -> None:
    """Every member, and the bytes of those that are files."""
    path = _file("fuzz.tar", data)
    for item in walk_tar(str(path), "fuzz.tar", len(data), SETTINGS):
        if hasattr(item, "place"):
            item.place.read()


def _parquets() -> list[bytes]:
    found = []
    picture = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    for column, values in (
        (pa.field("image", picture), [{"bytes": b"x" * 20, "path": "a.jpg"}, None]),
        (pa.field("jpg", pa.binary()), [b"x" * 20, None]),
    ):
        out = io.BytesIO()
        pq.write_table(pa.table([pa.array(values, column.type)], schema=pa.schema([column])), out)
        found.append(out.getvalue())
    return found


def read_parquet(data: bytes) -> None:
    """The rows of a source, and the same bytes as a table of ours."""
    for _ in walk_parquet(str(_file("fuzz.parquet", data)), "fuzz.parquet", SETTINGS, strict=False):
        pass
    with contextlib.suppress(VipError):
        read_table(data, ANSWERS)


def _images() -> list[bytes]:
    found = []
    pixels = np.random.default_rng(0).integers(0, 256, (9, 11, 3), np.uint8)
    for form, more in (
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("PNG", {}),
        ("GIF", {}),
        ("BMP", {}),
        ("TIFF", {}),
        ("WEBP", {}),
        ("PPM", {}),
        ("AVIF", {}),
    ):
        out = io.BytesIO()
        Image.fromarray(pixels).save(out, form, **more)
        found.append(out.getvalue())
    return found


def read_image(data: bytes) -> None:
    """Facts or a typed reject."""
    with contextlib.suppress(VipError):
        inspect_image(data, 1_000_000)


# The records of a root: one line, and verify names what is wrong.


def _root() -> tuple[ArtifactStore, Recipe]:
    store = ArtifactStore(PLACE / "root")
    recipe = Recipe(kind="shard", stage="fuzz", params={"n": 1})

    def write(folder: Path) -> dict:
        (folder / "a.txt").write_text("a")
        return {}

    made, _ = store.build(recipe, write)
    Refs(store.backend).set("name", made.ref)
    return store, recipe


def _records() -> list[bytes]:
    store, _ = _root()
    paths = [*store.backend.list("published"), *store.backend.list("refs")]
    paths += [path for path in store.backend.list("artifacts") if path.endswith("manifest.json")]
    return [store.backend.get(path) for path in paths]


def read_records(data: bytes) -> None:
    """The bytes in place of a publication, a manifest, a tombstone and an entry of a ref."""
    store, recipe = _root()
    root = Path(store.backend.root)
    places = [
        f"published/shard/{recipe.key}.json",
        next(path for path in store.backend.list("artifacts") if path.endswith("manifest.json")),
        "refs/name/00000001.json",
        f"tombstones/shard/{recipe.key}.json",
    ]
    for path in places:
        place = root / path
        before = place.read_bytes() if place.exists() else None
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
        for read in (
            lambda: store.find(recipe),
            lambda: Refs(store.backend).get("name"),
            lambda: list(store.list("shard")),
        ):
            with contextlib.suppress(VipError):
                read()
        verify(store.backend)
        place.unlink() if before is None else place.write_bytes(before)


# Journals and segments.


def _row() -> dict:
    return {
        "request_id": "a" * 64,
        "image_sha256": "b" * 64,
        "view": "v",
        "region": "r",
        "part": "joint",
        "draw": 0,
        "text": "Center: a; Surrounding: b",
        "finish_reason": "stop",
        "error": None,
        "prompt_tokens": 1,
        "completion_tokens": 2,
        "attempts": 1,
        "seconds": 0.5,
        "answered_at": datetime(2026, 11, 24, tzinfo=UTC).isoformat(),
        "model_id": "fake",
        "endpoint": "http://127.0.0.1:1",
        "server": "vllm 0",
    }


def _journals() -> list[bytes]:
    lines = [json.dumps({"answers_id": "c" * 32, "bits": 2}), json.dumps(_row()), json.dumps(_row() | {"draw": 1})]
    return ["".join(f"{line}\n" for line in lines).encode()]


def read_journal(data: bytes) -> None:
    """A journal that a dead process left: its whole answers are published, the rest is nothing."""
    with tempfile.TemporaryDirectory(dir=PLACE) as folder:
        (Path(folder) / "x.journal").write_bytes(data)
        backend = Backend(f"{folder}/root")
        with contextlib.suppress(VipError):
            recover(backend, Path(folder))
        assert not list(Path(folder).glob("*.journal")), "the journal is still there, and will be at every start"


def _segment_records() -> list[bytes]:
    return [json.dumps({"sha256": "d" * 64, "rows": 3}).encode()]


def read_segment(data: bytes) -> None:
    """The record of a segment and what names a partition."""
    with tempfile.TemporaryDirectory(dir=PLACE) as folder:
        backend = Backend(folder)
        place = Path(folder) / "answers" / ("c" * 32)
        (place / "01").mkdir(parents=True)
        (place / "01" / "00000001.json").write_bytes(data)
        (place / "spec.json").write_bytes(data)
        with contextlib.suppress(VipError):
            Answers(backend, "c" * 32).look_up("")
        verify(backend)


TARGETS = [
    Target("answers", _answer_bodies, read_answer),
    Target("configs", lambda: [CONFIG, SPEC], read_config),
    Target("tars", _tars, read_tar),
    Target("Parquet", _parquets, read_parquet),
    Target("images", _images, read_image),
    Target("records", _records, read_records),
    Target("journals", _journals, read_journal),
    Target("segments", _segment_records, read_segment),
]
