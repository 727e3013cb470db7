"""What an image, a prompt, a model or a dataset went into."""

import contextlib

import pytest
from PIL import Image

from bench._lineage_root import Synthetic, add_captions, add_checkpoint, add_dataset, add_evaluation
from bench._lineage_rows import make_spec, picture, sha, split_of
from schemas.errors import VipError
from schemas.sharding import ShardSettings
from storage.removal import collect, take_down
from storage.store import ArtifactStore
from vip.lineage.forget import plan_takedown, run_takedown
from vip.lineage.impact import impact_of_dataset, impact_of_image, impact_of_model, impact_of_prompt
from vip.lineage.index import open_index
from vip.sharding.build import shard_source


@pytest.fixture
def two(root, index):
    """A second dataset that shares nothing, captioned with another prompt and trained on."""
    add_dataset(root, "more", {f"{number}.png": picture(number) for number in range(30, 40)})
    add_captions(root, "more", "more", make_spec("other", prompt="What is around {region}?"))
    add_evaluation(root, add_checkpoint(root, "more", "more", seed=9), "more", "more", figures=3)
    index.refresh()
    return root


def keys(record, what):
    return [row["key"] for row in record[what]]


def test_an_image_reaches_only_what_used_it(two, index):
    record = impact_of_image(index, "31.png")
    assert record["counts"]["captions"] == 1
    assert keys(record, "caption_sets") == [two.sets["more"].key]
    assert keys(record, "checkpoints") == [two.checkpoints[1].key]
    assert len(record["metrics"]) == 3


def test_a_test_image_was_not_trained_on(two, index):
    test = next(n for n in range(12) if split_of(sha(picture(n))) == "test")
    train = next(n for n in range(12) if split_of(sha(picture(n))) == "train")
    held_out = impact_of_image(index, f"scene-{test}.png")
    assert held_out["checkpoints"][0]["used"] == "in its shards, but of the test split"
    assert held_out["metrics"][0]["used"] == "examined with"
    seen = impact_of_image(index, f"scene-{train}.png")
    assert seen["checkpoints"][0]["used"] == "trained on"
    assert seen["metrics"][0]["used"] == "through the checkpoint"


def two_of_one_image(tmp_path):
    """One source in two datasets, all for training and all for testing: (root, source, checkpoint key -> its use)."""
    source = tmp_path / "source"
    source.mkdir()
    for number in range(4):
        Image.new("RGB", (8, 8 + number), (number, 60, 90)).save(source / f"{number}.png")
    root = Synthetic(ArtifactStore(tmp_path / "mixed", run_id="run-1"))
    used = {}
    for seed, (name, share) in enumerate((("train", 0.0), ("test", 1.0))):
        made = shard_source(root.store, str(source), ShardSettings(name=name, bits=1, test_share=share), workers=1)
        root.shards[name] = [root.store.require(ref) for ref in made.inputs.values()]
        add_captions(root, name, name, make_spec())
        checkpoint = add_checkpoint(root, name, name, seed=seed)
        add_evaluation(root, checkpoint, name, name, figures=1)
        used[checkpoint.key] = "trained on" if name == "train" else "in its shards, but of the test split"
    return root, source, used


def uses(root, text):
    index = open_index(root.store.backend.url)
    record = impact_of_image(index, text)
    index.close()
    return {row["key"]: row["used"] for row in record["checkpoints"]}, sorted(row["used"] for row in record["metrics"])


@pytest.mark.parametrize("state", ["standing", "taken down", "taken down, dataset gone"])
def test_each_checkpoint_and_figure_is_told_by_its_own_shards_also_after_a_takedown(state, tmp_path):
    root, source, used = two_of_one_image(tmp_path)
    text = sha((source / "0.png").read_bytes())
    if state != "standing":
        index = open_index(root.store.backend.url)
        run_takedown(index, root.store, plan_takedown(index, root.store, [text]), "asked", "me", search=False)
        index.close()
    if state == "taken down, dataset gone":  # the manifests of the shards are left: all of them one split
        for dataset in list(root.store.list("dataset")):
            collect(root.store, dataset, "no ref reached it")
    assert uses(root, text) == (used, ["examined with", "through the checkpoint"])


def test_what_nobody_recorded_is_unknown_and_never_of_the_test_split(root):
    train = next(n for n in range(12) if split_of(sha(picture(n))) == "train")
    key = root.checkpoints[0].key
    for shard in root.shards["scenes"]:
        take_down(root.store, shard.ref, "asked")
    text = sha(picture(train))
    assert uses(root, text) == ({key: "trained on"}, ["through the checkpoint"] * 2)
    collect(root.store, root.datasets["scenes"], "no ref reached it")
    checkpoints, figures = uses(root, text)
    assert checkpoints[key].startswith("unknown") and all(used.startswith("unknown") for used in figures)


@pytest.mark.parametrize("text", ["other", "What is around", "file"])
def test_a_prompt_is_meant_by_name_words_or_file(two, index, text, tmp_path):
    if text == "file":
        text = str(tmp_path / "spec.yaml")
        (tmp_path / "spec.yaml").write_text("templates: {joint: 'What is around {region}?'}\n")
    record = impact_of_prompt(index, text)
    assert record["counts"]["captions"] == 10
    assert keys(record, "checkpoints") == [two.checkpoints[1].key]


@pytest.mark.parametrize("digits", [1, 3])
def test_fewer_than_four_digits_are_words_of_a_prompt_and_no_id(index, root, digits):
    spec = make_spec("sky", prompt="WHO IS UP?")  # no hex digit in it
    add_captions(root, "sky", "scenes", spec)
    index.refresh()
    for identifier in (spec.spec_id, spec.answers_id):
        with contextlib.suppress(VipError):
            record = impact_of_prompt(index, identifier[:digits])
            assert "sky" not in {row["name"] for row in record["of"]["specs"]}
        assert impact_of_prompt(index, identifier[:12])["of"]["specs"][0]["name"] == "sky"


def test_a_prompt_may_be_longer_than_the_name_of_a_file(root, index):
    words = "What is around {region}? " * 200
    add_captions(root, "long", "scenes", make_spec("long", prompt=words))
    index.refresh()
    assert impact_of_prompt(index, words.strip())["counts"]["captions"] > 0
    with pytest.raises(VipError, match="is no file, no image id"):
        impact_of_image(index, words)


@pytest.mark.parametrize("data", [b"a: [1", b"\xff\xfe\x00", b"a: 1\na: 2"], ids=["broken", "binary", "twice"])
def test_a_prompt_file_that_cannot_be_read_is_said_in_one_line(index, data, tmp_path):
    (tmp_path / "spec.yaml").write_bytes(data)
    with pytest.raises(VipError, match=r"spec .*spec\.yaml"):
        impact_of_prompt(index, str(tmp_path / "spec.yaml"))


def test_a_model_reaches_everything_it_captioned_or_was_the_base_of(two, index):
    captioner = impact_of_model(index, "nano")
    assert captioner["counts"]["captions"] == 21
    assert len(captioner["checkpoints"]) == 2
    assert impact_of_model(index, "ab" * 8)["counts"] == captioner["counts"]
    by_id = impact_of_model(index, two.checkpoints[0].inputs["base"].key[:12])
    assert len(by_id["checkpoints"]) == 2
    assert len(by_id["metrics"]) == 5
    by_name = impact_of_model(index, "plain-base")
    assert by_name["of"]["trained_from"] == [two.checkpoints[0].inputs["base"].key]
    assert by_name["counts"] == by_id["counts"]


def test_a_base_is_found_by_whatever_a_training_called_it(root, index):
    other = add_checkpoint(root, "keywords", "scenes", seed=4, stats={"base": "org/the-same-files"})
    index.refresh()
    assert other.inputs["base"] == root.checkpoints[0].inputs["base"]
    record = impact_of_model(index, "org/the-same-files")
    assert record["of"]["trained_from"] == [other.inputs["base"].key]
    assert record["counts"] == impact_of_model(index, "plain-base")["counts"]


@pytest.mark.parametrize(
    "text", ["efficientnet-lite0", "efficientnet-lite0@123456789abc", "12345678", "123456789abcdef0"]
)
def test_a_network_reaches_the_figures_that_it_measured_and_no_others(two, index, text):
    record = impact_of_model(index, text)
    assert record["counts"]["metrics"] == len(record["metrics"]) == 4
    assert {row["metric"] for row in record["metrics"]} == {"frechet_distance", "kid"}
    assert {row["used"] for row in record["metrics"]} == {"measured with"}
    assert not record["checkpoints"]


@pytest.mark.parametrize("question", [impact_of_model, impact_of_prompt])
def test_nothing_is_not_everything(index, question):
    with pytest.raises(VipError, match="was given"):
        question(index, "")


def test_an_unknown_model_is_said_in_one_line(index):
    with pytest.raises(VipError, match="is called 'blip'"):
        impact_of_model(index, "blip")


def test_a_dataset_reaches_its_captions_checkpoints_and_figures(two, index):
    record = impact_of_dataset(index, "more")
    assert record["counts"]["captions"] == 10
    assert keys(record, "checkpoints") == [two.checkpoints[1].key]


def test_an_unknown_prompt_is_said_in_one_line(index):
    with pytest.raises(VipError, match="no captions here were made with a prompt"):
        impact_of_prompt(index, "never asked")
