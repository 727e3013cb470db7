"""``vip audit``, ``ref`` and ``gc`` as a person and a script use them."""

import json

import pytest

from bench._lineage_root import add_checkpoint, small_root
from flows.artifacts import find_artifact
from flows.cli.main import main
from schemas.errors import VipError
from schemas.manifest import Recipe
from storage.removal import collect
from storage.suppression import suppress, suppressed


@pytest.fixture
def root(tmp_path):
    return small_root(tmp_path / "root")


@pytest.fixture
def vip(root, capsys):
    def run(*words):
        code = 0
        try:
            main([*words, "--root", root.store.backend.url])
        except SystemExit as leaving:
            code = leaving.code or 0
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def test_every_question_answers_people_and_machines(vip, root):
    _, out, _ = vip("audit", "checkpoint", "latest", "--json")
    record = json.loads(out)
    metric = record["metrics"][0]["id"]
    _, out, _ = vip("audit", "image", "scene-0.png", "--json")
    caption = json.loads(out)["captions"][0]["caption_id"]
    for words in (
        ("caption", caption[:10]),
        ("metric", metric[:10]),
        ("image", "scene-0.png"),
        ("checkpoint", "promoted"),
        ("impact", "--image", "scene-0.png"),
        ("impact", "--prompt", "keywords"),
        ("log", "promoted"),
        ("verify",),
        ("reindex",),
    ):
        code, out, err = vip("audit", *words)
        assert (code, err) == (0, ""), words
        assert out.strip()
        code, out, _ = vip("audit", *words, "--json")
        assert code == 0
        assert json.loads(out)


def test_verify_fails_and_names_the_file(vip, root, tmp_path):
    path = root.store.path(root.shards["scenes"][0], "samples.tar")
    data = bytearray((tmp_path / "root" / path).read_bytes())
    data[700] ^= 1
    (tmp_path / "root" / path).write_bytes(bytes(data))
    code, out, _ = vip("audit", "verify")
    assert code == 1
    assert f"PROBLEM  {path}: changed" in out
    code, out, _ = vip("audit", "verify", "--json")
    assert code == 1
    assert json.loads(out)["problems"][0]["file"] == path


def test_a_wrong_id_is_one_line(vip):
    code, out, err = vip("audit", "caption", "00000000")
    assert code == 1
    assert not out
    assert err.count("\n") == 1
    assert "no caption has an id" in err


def test_a_name_that_fits_nothing_and_a_prefix_that_fits_two_have_each_their_remedy(root):
    store, keys = root.store, {}
    for seed in range(100, 2000):  # two recipes whose keys begin alike
        recipe = Recipe(kind="report", stage="test", params={"seed": seed})
        first = keys.setdefault(recipe.key[:4], recipe)
        if first is not recipe:
            break
    for one in (first, recipe):
        store.build(one, lambda folder: (folder / "page").write_text(folder.name) and {})
    root.refs.set("report/weekly", store.find(first).ref)
    with pytest.raises(VipError, match=rf"'{recipe.key[:4]}' fits 2 artifacts \(.*give more digits"):
        find_artifact(store, "report", recipe.key[:4])
    with pytest.raises(VipError, match="no report is called 'monthly'; there are: report/weekly"):
        find_artifact(store, "report", "monthly")
    with pytest.raises(VipError, match="no gate is called 'monthly'; this root has no gate yet"):
        find_artifact(store, "gate", "monthly")
    assert find_artifact(store, "caption_set", "keywords").key == root.sets["keywords"].key


def test_refs_are_set_and_rolled_back(vip, root):
    new = add_checkpoint(root, "keywords", "scenes", seed=1)
    assert vip("ref", "set", "promoted", new.key[:12], "--note", "better")[0] == 0
    assert root.refs.get("promoted").key == new.key
    assert vip("ref", "rollback", "promoted")[0] == 0
    assert root.refs.get("promoted").key == root.checkpoints[0].key
    assert vip("ref", "rollback", "promoted", "--to", "2")[0] == 0
    assert root.refs.get("promoted").key == new.key
    assert "promoted" in vip("ref", "list")[1]


def test_a_ref_is_not_rolled_back_to_what_was_collected_and_made_again_with_other_bytes(vip, root):
    recipes = [Recipe(kind="checkpoint", stage="train", params={"seed": seed}) for seed in (1, 2)]

    def made(recipe, weights):
        return root.store.build(recipe, lambda folder: (folder / "w").write_text(weights) and {})[0]

    first, second = made(recipes[0], "as promoted"), made(recipes[1], "better")
    for checkpoint in (first, second):
        root.refs.set("promoted/scenes", checkpoint.ref)
    collect(root.store, first, "no ref reached it")
    made(recipes[0], "another time, another number of threads")
    code, _, err = vip("ref", "rollback", "promoted/scenes")
    assert code == 1 and "was made again since, with other bytes" in err
    assert root.refs.get("promoted/scenes") == second.ref


def test_a_name_for_one_kind_is_not_set_to_another(vip, root):
    code, _, err = vip("ref", "set", "dataset/scenes", "promoted")
    assert code == 1 and "dataset/scenes is a name for a dataset, not for a checkpoint" in err
    assert root.refs.get("dataset/scenes") == root.datasets["scenes"].ref
    assert vip("ref", "set", "captions/same", "captions/keywords")[0] == 0


def test_nobody_takes_an_image_off_the_suppression_list_by_moving_its_ref(vip, root):
    for image in ("a", "b"):
        suppress(root.store, [image * 64], "asked")
    for words in (("rollback", "suppressed"), ("set", "suppressed", "promoted"), ("set", "takedowns", "promoted")):
        code, _, err = vip("ref", *words)
        assert code == 1 and "only grows" in err
    assert len(suppressed(root.store)) == 2


@pytest.mark.parametrize("hours", ["inf", "1e9"])
def test_a_grace_beyond_all_times_is_wrong_usage(vip, hours):
    code, _, err = vip("gc", "--grace-hours", hours)
    assert code == 2 and "grace-hours" in err


def test_gc_is_a_dry_run_unless_told(vip, root):
    for seed in (1, 2):
        for name in ("latest", "promoted"):
            root.refs.set(name, add_checkpoint(root, "keywords", "scenes", seed=seed).ref)
    old = root.checkpoints[0]
    assert "nothing was touched" in vip("gc", "--grace-hours", "0")[1]
    assert root.store.get("checkpoint", old.key) is not None
    code, out, _ = vip("gc", "--grace-hours", "0", "--delete", "--json")
    assert code == 0
    assert json.loads(out)["deleted"]
    assert root.store.get("checkpoint", old.key) is None
    assert vip("audit", "verify")[0] == 0
