"""Captions, images, checkpoints and figures are followed to where they came from."""

import hashlib

import pytest
from PIL import Image

from bench._lineage_root import Synthetic, add_captions, add_checkpoint, add_dataset, add_evaluation
from bench._lineage_rows import BANK, make_spec, picture, sha
from schemas.canonical import fingerprint
from schemas.errors import VipError
from schemas.sharding import ShardSettings
from storage.removal import take_down
from storage.store import ArtifactStore
from vip.lineage import graph
from vip.lineage.caption import trace_caption
from vip.lineage.checkpoint import trace_checkpoint, trace_log
from vip.lineage.image import trace_image
from vip.lineage.index import open_index
from vip.lineage.metric import trace_metric
from vip.lineage.resolve import resolve_artifact
from vip.sharding.build import shard_source

SPEC = make_spec()


def caption_id(key, spec=SPEC):
    return fingerprint([key, BANK.view.id, BANK.regions[0].id, spec.spec_id])[:32]


def test_a_caption_is_followed_to_the_bytes_the_answer_and_the_run(index, root):
    key = sha(picture(0))
    trace = trace_caption(index, caption_id(key)[:8].upper())
    assert trace["caption"]["caption_id"] == caption_id(key)
    assert trace["caption"]["accepted"]
    assert trace["image"]["sha256"] == key
    assert trace["shard"]["key"] in {shard.key for shard in root.shards["scenes"]}
    assert trace["spec"]["spec_id"] == SPEC.spec_id
    assert trace["spec"]["sampling"] == SPEC.sampling.model_dump()
    assert trace["spec"]["prompts"] == {
        "joint": "Describe centre and surrounding of the central 50% of the width and height."
    }
    (answer,) = trace["answers"]
    assert answer["text"] == f"raw: {trace['caption']['total']}"
    assert answer["request_id"] == fingerprint([SPEC.answers_id, key, 0])
    assert answer["segment"].startswith(f"answers/{SPEC.answers_id}/")
    assert root.store.backend.exists(answer["segment"])
    assert trace["model"]["revision"] == "ab" * 32
    assert trace["made_by"]["run"] == "run-1"
    assert trace["made_by"]["stage"] == "caption_shard"
    assert trace["used_by"]["checkpoints"] == [root.checkpoints[0].key]
    assert len(trace["checks"]) == 4
    assert all(check["ok"] for check in trace["checks"])


def test_a_rejected_caption_shows_its_reason_and_its_answer(index):
    trace = trace_caption(index, caption_id(sha(picture(3))))
    assert not trace["caption"]["accepted"]
    assert trace["caption"]["reason"] == "empty"
    assert trace["answers"][0]["text"] == "raw: "


def test_a_changed_answer_or_image_shows_in_the_chain(index, root, tmp_path):
    trace = trace_caption(index, caption_id(sha(picture(0))))
    segment = tmp_path / "root" / trace["answers"][0]["segment"]
    segment.write_bytes(segment.read_bytes()[:-1] + b"x")
    tar = tmp_path / "root" / trace["shard"]["folder"] / "samples.tar"
    data = tar.read_bytes()
    place = data.index(picture(0))
    tar.write_bytes(data[:place] + b"x" + data[place + 1 :])
    wrong = [check["what"] for check in trace_caption(index, caption_id(sha(picture(0))))["checks"] if not check["ok"]]
    assert len(wrong) == 2
    assert wrong[0].endswith(f"samples.tar: {sha(picture(0))}.png")
    assert wrong[1] == trace["answers"][0]["segment"]


def test_an_image_is_found_by_hash_name_and_file(index, tmp_path):
    key = sha(picture(5))
    file = tmp_path / "renamed.bin"
    file.write_bytes(picture(5))
    for text in (key, key[:10], key.upper(), "scene-5.png", str(file)):
        trace = trace_image(index, text)
        assert trace["image"]["sha256"] == key
        assert trace["names"] == ["scene-5.png"]
        assert [row["caption_id"] for row in trace["captions"]] == [caption_id(key)]
        assert trace["used_by"]["checkpoint"] == 1
        assert trace["checks"][0]["ok"]


@pytest.mark.parametrize("captioned", [True, False])
def test_an_image_that_was_taken_down_keeps_its_whole_hash_and_its_names(captioned, tmp_path):
    root = Synthetic(ArtifactStore(tmp_path / "other", run_id="run-1"))
    add_dataset(root, "scenes", {"a.png": picture(1), "b.png": picture(1)})
    add_dataset(root, "more", {"c.png": picture(2)})
    add_captions(root, "keywords", "scenes" if captioned else "more", make_spec())
    add_checkpoint(root, "keywords", "scenes")
    take_down(root.store, root.shards["scenes"][0].ref, "asked")
    index = open_index(root.store.backend.url)
    trace = trace_image(index, "a.png")
    index.close()
    assert trace["image"] == {"sha256": sha(picture(1)), "known": True}
    assert trace["names"] == ["a.png", "b.png"]
    assert trace["used_by"]["checkpoint"] == 1


@pytest.mark.parametrize("asked", ["name", "hash", "file"])
def test_an_image_that_a_source_rejected_is_said_to_be_so_and_why(asked, tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    Image.effect_noise((64, 64), 50).save(source / "good.png")
    (source / "bad.png").write_bytes((source / "good.png").read_bytes()[:1000])
    store = ArtifactStore(tmp_path / "other", run_id="run-1")
    made = shard_source(store, str(source), ShardSettings(name="photos", bits=1), workers=1)
    key = sha((source / "bad.png").read_bytes())
    index = open_index(store.backend.url)
    trace = trace_image(index, {"name": "bad.png", "hash": key[:12], "file": str(source / "bad.png")}[asked])
    good = trace_image(index, "good.png")
    index.close()
    assert trace["image"] == {"sha256": key, "known": False}
    (row,) = trace["rejected"]
    assert (row["dataset"], row["name"], row["reason"]) == (made.key, "bad.png", "truncated")
    assert good["rejected"] == []


def test_a_file_that_is_not_in_the_root_is_known_by_its_hash_only(index, tmp_path):
    file = tmp_path / "new.bin"
    file.write_bytes(b"never seen")
    trace = trace_image(index, str(file))
    assert trace["image"] == {"sha256": hashlib.sha256(b"never seen").hexdigest(), "known": False}
    assert trace["captions"] == trace["shards"] == []


def test_a_figure_is_followed_to_checkpoint_exam_captions_and_bytes(index, root, tmp_path):
    for row in index.db.execute("SELECT id FROM metric").fetchall():
        trace = trace_metric(index, row["id"])
        assert trace["checkpoint"]["digest"] == root.checkpoints[0].digest
        assert trace["checkpoint"]["trained_on_captions"] == [root.sets["keywords"].key]
        assert trace["caption_set"]["key"] == root.sets["keywords"].key
        assert trace["caption_set"]["captions"] == 11
        assert trace["exam"]["params"]["sampler"] == "ddim"
        assert trace["data"]["dataset"] == [root.datasets["scenes"].key]
        assert trace["data"]["shards"] == 2
        for place in trace["data"]["image_bytes"]:
            assert (tmp_path / "root" / place["file"]).is_file()
        assert all(check["ok"] for check in trace["checks"])


def test_a_figure_of_one_of_two_checkpoints_with_the_same_weights_is_followed_to_its_own(root):
    add_captions(root, "other", "scenes", make_spec("other", prompt="What else is there?"))
    twin = add_checkpoint(root, "other", "scenes")
    assert twin.digest == root.checkpoints[0].digest and twin.key != root.checkpoints[0].key
    exam = add_evaluation(root, twin, "other", "scenes")
    index = open_index(root.store.backend.url)
    for row in index.db.execute(
        "SELECT metric.id FROM metric JOIN artifact ON artifact.id = artifact WHERE key = ?", (exam.key,)
    ).fetchall():
        trace = trace_metric(index, row["id"])
        assert trace["checkpoint"]["key"] == twin.key
        assert trace["checkpoint"]["trained_on_captions"] == [root.sets["other"].key]
    index.close()


@pytest.mark.parametrize("rebuilt", [False, True])
def test_how_many_images_there_were_is_told_the_same_after_a_shard_was_removed(rebuilt, index, root):
    figure = index.db.execute("SELECT id FROM metric").fetchone()["id"]

    def counts():
        trained, examined = trace_checkpoint(index, "latest")["data"], trace_metric(index, figure)["data"]
        return trained, examined["test_images"], [row["test_images"] for row in examined["image_bytes"]]

    before = counts()
    assert before[0] == {"shards": 2, "train_images": 11, "test_images": before[1]}
    for shard in root.shards["scenes"]:
        take_down(root.store, shard.ref, "asked")
    index.rebuild() if rebuilt else index.refresh()
    assert counts() == before


def test_a_figure_of_an_exam_of_training_images_counts_those(root):
    exam = add_evaluation(root, root.checkpoints[0], "keywords", "scenes", split="train")
    index = open_index(root.store.backend.url)
    number = graph.node(index, "evaluation", exam.key)
    figure = index.db.execute("SELECT id FROM metric WHERE artifact = ?", (number,)).fetchone()["id"]
    trace = trace_metric(index, figure)
    index.close()
    assert trace["data"]["train_images"] == 11


def test_a_checkpoint_is_found_by_ref_key_and_digest(index, root):
    made = root.checkpoints[0]
    root.refs.set("checkpoint/scenes", made.ref)
    for text in (
        "latest",
        "scenes",
        "checkpoint/scenes",
        made.key[:8].upper(),
        made.digest,
        f"checkpoint/{made.key[:6]}",
    ):
        trace = trace_checkpoint(index, text)
        assert trace["checkpoint"]["key"] == made.key
    assert trace["captions"][0]["spec_id"] == SPEC.spec_id
    assert trace["data"]["shards"] == 2
    assert trace["data"]["train_images"] + trace["data"]["test_images"] == 12
    assert len(trace["metrics"]) == 2


def test_the_log_of_a_ref_is_newest_first(index, root):
    root.refs.set("promoted", root.evaluations[0].ref, note="a mistake")
    assert [entry["note"] for entry in trace_log(index, "promoted")] == ["a mistake", "first"]


@pytest.mark.parametrize(
    ("question", "text", "reason"),
    [
        (trace_caption, "0000000000", "no caption has an id"),
        (trace_caption, "zz", "no id of a caption"),
        (trace_image, "no-such-name.png", "no file, no image id and no name"),
        (trace_metric, "feedfeed", "no figure has an id"),
        (trace_metric, "", "no id of a figure"),
        (trace_checkpoint, "nothing", "no checkpoint is called"),
        (trace_checkpoint, "dataset/scenes", "is of kind dataset, not checkpoint"),
        (trace_log, "nothing", "no ref is called"),
    ],
)
def test_what_cannot_be_found_is_said_in_one_line(index, question, text, reason):
    with pytest.raises(VipError, match=reason):
        question(index, text)


def test_a_prefix_that_fits_two_artifacts_is_refused(index):
    rows = [("captions", "abcd" + "0" * 60), ("captions", "abcd" + "1" * 60)]
    index.db.executemany("INSERT INTO artifact (kind, key, state) VALUES (?, ?, 'missing')", rows)
    with pytest.raises(VipError, match="fits 2 artifacts"):
        resolve_artifact(index, "abcd")


def test_a_caption_that_two_artifacts_hold_names_both(root):
    add_captions(root, "again", "scenes", make_spec().model_copy(update={"name": "other-name"}))
    with_more = make_spec(prompt="Another question.")
    add_captions(root, "more", "scenes", with_more)
    opened = open_index(root.store.backend.url)
    assert len(trace_caption(opened, caption_id(sha(picture(0))))["held_by"]) == 1
    assert len(trace_image(opened, "scene-0.png")["captions"]) == 2
    assert trace_caption(opened, caption_id(sha(picture(0)), with_more))["spec"]["prompts"] == {
        "joint": "Another question."
    }
    opened.close()
