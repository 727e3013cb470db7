"""Whatever file is damaged, every question ends with an answer or one line, and ``verify`` says which file it is."""

import shutil
from datetime import timedelta

import pytest

from bench._lineage_root import add_checkpoint, add_evaluation, small_root
from bench._lineage_rows import picture, sha
from flows.cli.main import main
from storage.removal import take_down
from tests.tamper import files_of, mentioned
from vip.lineage.gc import plan_gc, run_gc
from vip.lineage.index import open_index

pytestmark = pytest.mark.slow

WAYS = {
    "empty": lambda _: b"",
    "cut off": lambda data: data[: len(data) // 2],
    "other JSON": lambda _: b'{"rows": [1]}',
    "no text": lambda _: b"\xff\xfe\x00" * 40,
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A small root with what gc and a removal leave."""
    made = small_root(tmp_path_factory.mktemp("damage") / "root")
    for seed in (1, 2):
        for name in ("latest", "promoted"):
            made.refs.set(name, add_checkpoint(made, "keywords", "scenes", seed=seed).ref)
    add_evaluation(made, made.checkpoints[-1], "keywords", "scenes")
    run_gc(made.store, plan_gc(made.store, history=1, grace=timedelta(0)))
    take_down(made.store, made.shards["scenes"][0].ref, "taken down")
    return made


@pytest.fixture(scope="module")
def questions(root):
    index = open_index(root.store.backend.url)
    first, second = (row["id"] for row in index.db.execute("SELECT id FROM metric LIMIT 2"))
    caption = index.db.execute("SELECT hex(id) AS id FROM caption WHERE rejected = 0").fetchone()["id"]
    index.close()
    image = sha(picture(0))
    return [
        ("audit", "caption", caption),
        ("audit", "metric", first),
        ("audit", "image", image),
        ("audit", "checkpoint", "latest"),
        ("audit", "log", "promoted"),
        ("audit", "diff", first, second),
        ("audit", "impact", "--image", image),
        ("audit", "impact", "--prompt", "keywords"),
        ("audit", "stale"),
        ("ref", "list"),
        ("gc",),
        ("export", "captions", "keywords", "--out", "{out}/captions"),
        ("export", "croissant", "scenes", "--out", "{out}/card.json"),
        ("export", "openlineage", "--out", "{out}/events"),
        ("forget", image, "--reason", "asked", "--plan"),
    ]


@pytest.mark.parametrize("way", WAYS)
def test_no_damage_ends_in_a_traceback(root, questions, way, tmp_path, capsys):
    place = root.store.backend.local_path("")
    one_of_each = {}
    for path in files_of(place, "artifacts", "published", "answers", "refs", "tombstones", "collected"):
        parts = path.relative_to(place).parts
        kind = parts[1] if parts[0] != "answers" else ""
        one_of_each.setdefault((parts[0], kind, path.name if parts[0] == "artifacts" else path.suffix), path)
    assert len(one_of_each) > 30
    for path in one_of_each.values():
        data = path.read_bytes()
        path.write_bytes(WAYS[way](data))
        shutil.rmtree(place / "index")
        for words in questions:
            code = run(*(word.format(out=tmp_path) for word in words), "--root", str(place))
            said = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("  ")]  # progress
            assert code in (0, 1) and len(said) <= 1, (path, words, said)
            shutil.rmtree(tmp_path / "captions", ignore_errors=True)
        assert str(path.relative_to(place)) in mentioned(place), path
        path.write_bytes(data)


def run(*words):
    try:
        main(list(words))
    except SystemExit as leaving:
        return leaving.code or 0
    return 0
