"""The plan: up to date, missing, stale with causes; retries, second draws, previews and estimates."""

import threading
import uuid
import weakref
from contextlib import closing
from zlib import crc32

import pytest

from schemas.bank import Bank
from schemas.pricing import Price
from schemas.region import CentreRegion, SidesRegion, View
from schemas.spec import CAUSES, CaptionSpec
from storage.store import ArtifactStore
from tests.fake_openai import FakeServer, serving
from tests.vip.captioning.helpers import BANK, captions_of, make_dataset, make_spec, run, write_images
from vip.captioning.ask import ask
from vip.captioning.caption_set import make_caption_set
from vip.captioning.compare import noise_floor, preview
from vip.captioning.estimate import estimate
from vip.captioning.plan import current_round, dataset_shards, find_captions, next_round, plan_captions
from vip.captioning.stale import differences
from vip.lineage.diff import diff
from vip.lineage.index import open_index


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"templates": {"joint": "Other."}}, "template"),
        ({"constraint": {"joint": {"regex": ".*"}}}, "template"),
        ({"sampling": {"temperature": 0.5}}, "sampling"),
        ({"model": {"id": "fake", "revision": "b" * 64, "declared": True}}, "model"),
        ({"sampling": {"seed": 3}, "templates": {"joint": "Other."}}, "template, sampling"),
        ({"constraint": {"joint": {"regex": ".*"}}, "templates": {"joint": "Other."}}, "template"),
    ],
    ids=str,
)
def test_stale_rows_name_their_cause(store, dataset, spec, tokenizer, endpoint, scratch, changes, cause):
    run(store, dataset, spec, [endpoint], scratch)
    plan = plan_captions(store, dataset, make_spec(tokenizer, **changes), BANK)
    assert plan.causes == {cause: 24}
    assert (plan.rows, plan.up_to_date, plan.missing, plan.stale) == (24, 0, 0, 24)


def test_preprocessing_matters_where_pixels_are_rendered(store, dataset, tokenizer, endpoint, scratch, server):
    server.text = lambda body: "wolf"
    run(store, dataset, make_spec(tokenizer, strategy="split"), [endpoint], scratch)
    plan = plan_captions(store, dataset, make_spec(tokenizer, strategy="split", preprocessing={"blank": 0}), BANK)
    assert plan.causes == {"preprocessing": 24}


def test_another_view_or_region_is_a_cause(store, dataset, tokenizer, endpoint, scratch):
    spec = make_spec(tokenizer, templates={"joint": "Kept {box}."})
    run(store, dataset, spec, [endpoint], scratch)
    plan = plan_captions(store, dataset, spec, Bank(view=View(width=16, height=16), regions=(SidesRegion(left=0.5),)))
    assert plan.causes == {"view/region": 24}
    both = Bank(view=View(width=16, height=16), regions=(CentreRegion(), SidesRegion(left=0.5)))
    plan = plan_captions(store, dataset, spec, both)
    assert (plan.rows, plan.up_to_date, plan.to_ask) == (48, 24, 24)


def test_changed_and_new_images_are_told_apart(store, dataset, spec, endpoint, scratch, tmp_path):
    run(store, dataset, spec, [endpoint], scratch)
    write_images(tmp_path / "images", 2, seed=5)
    write_images(tmp_path / "other", 1, seed=9)
    (tmp_path / "other" / "9-00000.png").rename(tmp_path / "images" / "0-00007.png")
    plan = plan_captions(store, make_dataset(store, tmp_path / "images"), spec, BANK)
    assert plan.causes == {"": 2, "image": 1}
    assert (plan.up_to_date, plan.missing, plan.stale, plan.requests) == (23, 2, 1, 3)


def test_every_part_of_a_spec_names_what_its_change_means(tokenizer):
    assert CAUSES.keys() == CaptionSpec.model_fields.keys() - {"name"}
    spec = make_spec(tokenizer)
    other = spec.model_copy(update={"leave_out": ("left",)})
    assert differences(spec.params, BANK.params, other, BANK) == ("reading",)
    assert differences(other.params, BANK.params, spec, BANK) == ("reading",)


def test_a_change_of_reading_asks_nothing(store, dataset, spec, tokenizer, server, endpoint, scratch):
    run(store, dataset, spec, [endpoint], scratch)
    other = make_spec(tokenizer, budget={"centre": 5})
    plan = plan_captions(store, dataset, other, BANK)
    assert plan.requests == 0 and plan.up_to_date == 24
    made, stats = run(store, dataset, other, [endpoint], scratch)
    assert stats.requests == 0 and server.requests == 24
    assert made.stats["rejected"] > 0  # 'wolf, fox-12' is six tokens and more


def test_only_rejected_rows_are_retried_with_a_new_draw(store, dataset, spec, server, endpoint, scratch):
    def some_are_bad(body):
        return (
            "nonsense"
            if b'"seed":0' in body and crc32(body) % 3 == 0
            else f"Center: wolf; Surrounding: snow {len(body)}"
        )

    server.text = some_are_bad
    first, _ = run(store, dataset, spec, [endpoint], scratch)
    captions, rejects = captions_of(store, first)
    assert 0 < len(rejects) < 24
    round = next_round(store, dataset, spec, BANK)
    assert round == 1 and plan_captions(store, dataset, spec, BANK, round=round).requests == len(rejects)
    second, stats = run(store, dataset, spec, [endpoint], scratch, round=round)
    assert stats.requests == len(rejects) and server.requests == 24 + len(rejects)
    now, none = captions_of(store, second)
    assert len(now) == 24 and not none and second.key != first.key
    assert {tuple(row["draws"]) for row in now} == {(0,), (1,)}
    kept = {row["caption_id"]: row for row in now}
    assert all(kept[row["caption_id"]] == row for row in captions)
    assert next_round(store, dataset, spec, BANK) == 1
    assert captions_of(store, first) == (captions, rejects)


@pytest.mark.parametrize("more", [1, 32], ids=["one shard changes", "every shard changes"])
def test_what_a_retry_won_stays_won_when_the_dataset_grows(
    store, dataset, spec, server, endpoint, scratch, tmp_path, more
):
    good = "Center: wolf; Surrounding: snow"
    server.text = lambda body: "nonsense" if b'"seed":0' in body and crc32(body) % 3 == 0 else good
    first, _ = run(store, dataset, spec, [endpoint], scratch)
    run(store, dataset, spec, [endpoint], scratch, round=next_round(store, dataset, spec, BANK))
    assert first.stats["rejected"] > 0
    before = set(dataset_shards(dataset).values())
    write_images(tmp_path / "images", more, seed=5)
    grown = make_dataset(store, tmp_path / "images")
    assert len(before - set(dataset_shards(grown).values())) == min(more, 4)
    round = current_round(store, grown, spec, BANK)
    asked = server.requests
    made, _ = run(store, grown, spec, [endpoint], scratch, round=round)
    assert round == 1 and made.stats["captions"] == 24 + more
    assert server.requests - asked < 2 * more + 1  # the new rows alone
    assert next_round(store, grown, spec, BANK) == 1


def test_retries_of_other_images_are_no_retries_of_these(store, dataset, spec, server, endpoint, scratch, tmp_path):
    server.text = lambda body: "nonsense"
    for round in (0, 1):
        run(store, dataset, spec, [endpoint], scratch, round=round)
    other = make_dataset(store, write_images(tmp_path / "others", 24, seed=3))
    assert current_round(store, other, spec, BANK) == 0
    assert current_round(store, dataset, spec, BANK.model_copy(update={"regions": (SidesRegion(left=0.5),)})) == 0


def test_an_answer_over_budget_is_asked_again_shorter(store, dataset, tokenizer, server, endpoint, scratch):
    long = "Center: wolf; Surrounding: " + " ".join(["snow, ice, moon, night,"] * 2)
    server.text = lambda body: "Center: wolf; Surrounding: snow" if b"Use fewer words." in body else long
    spec = make_spec(tokenizer, budget={"surrounding": 6, "over": "reask"})
    made, stats = run(store, dataset, spec, [endpoint], scratch)
    captions, rejects = captions_of(store, made)
    assert {row["surrounding"] for row in captions} == {"snow"} and not rejects and stats.requests == 48
    strict = make_spec(tokenizer, budget={"surrounding": 6})
    _, rejects = captions_of(store, run(store, dataset, strict, [endpoint], scratch)[0])
    assert {row["reason"] for row in rejects} == {"over_long"} and server.requests == 48
    loose = make_spec(tokenizer, budget={"surrounding": 6, "over": "keep"})
    captions, _ = captions_of(store, run(store, dataset, loose, [endpoint], scratch)[0])
    assert len(captions) == 24


def test_what_the_target_would_cut_is_recorded(store, dataset, tokenizer, server, endpoint, scratch):
    words = [f"{letter}{number}" for letter in "abcdefgh" for number in range(12)]
    server.text = lambda body: f"Center: wolf; Surrounding: {' '.join(words)}"
    spec = make_spec(tokenizer, budget={"over": "keep"})
    captions, _ = captions_of(store, run(store, dataset, spec, [endpoint], scratch)[0])
    row = captions[0]
    # begin, Center : wolf ; Surrounding :, 96 words, end = 104 tokens; 76 and the end fit.
    assert row["tokens_total"] == 104 and row["tokens_centre"] == 3
    assert row["cut"] == " ".join(words[69:])


def test_leaks_are_recorded_and_rejected_where_asked(store, dataset, tokenizer, server, endpoint, scratch):
    server.text = lambda body: "Center: grey wolf; Surrounding: snow, wolves, wolf"
    spec = make_spec(tokenizer)
    captions, _ = captions_of(store, run(store, dataset, spec, [endpoint], scratch)[0])
    assert captions[0]["leak"] == ["wolf"]
    _, rejects = captions_of(store, run(store, dataset, make_spec(tokenizer, leak_share=0.5), [endpoint], scratch)[0])
    assert {row["reason"] for row in rejects} == {"leak"} and server.requests == 24


def test_joint_is_held_against_split(store, dataset, tokenizer, server, endpoint, scratch):
    server.text = lambda body: "Center: wolf, tent; Surrounding: snow, wolf"
    joint, _ = run(store, dataset, make_spec(tokenizer), [endpoint], scratch)
    server.text = lambda body: "wolf" if b"the centre" in body else "snow, tent"
    split, _ = run(store, dataset, make_spec(tokenizer, strategy="split"), [endpoint], scratch)
    with closing(open_index(store.backend.url)) as index:
        found = diff(index, joint.key, split.key)["leaks"]
    assert (found["leaking"], found["of"]) == (24, 24)
    assert found["rows"][0] | {"caption": ""} == {
        "caption": "",
        "surrounding restates": "wolf",
        "centre foresees": "tent",
    }


def test_a_sample_shows_old_beside_new(store, dataset, spec, tokenizer, server, endpoint, scratch):
    run(store, dataset, spec, [endpoint], scratch)
    server.text = lambda body: "Center: new; Surrounding: words"
    plan = plan_captions(store, dataset, make_spec(tokenizer, templates={"joint": "Other."}), BANK, limit=5)
    assert (plan.rows, plan.requests) == (5, 5)
    ask(store, plan, [endpoint], scratch)
    rows = preview(store, plan)
    assert len(rows) == 5 and all(row.old and row.new == ("new", "words") and row.old != row.new for row in rows)
    assert server.requests == 29


def test_the_noise_floor_is_measured_and_becomes_no_caption(store, dataset, spec, server, endpoint, scratch):
    server.text = lambda body: "Center: wolf; Surrounding: snow, " + ("day" if b'"seed":0' in body else "night")
    first, _ = run(store, dataset, spec, [endpoint], scratch)
    plan = plan_captions(store, dataset, spec, BANK, limit=10, noise=True)
    assert plan.requests == 10
    ask(store, plan, [endpoint], scratch)
    floor = noise_floor(store, dataset, spec, BANK)
    assert (floor.rows, floor.identical, floor.centre) == (10, 0.0, 1.0)
    assert floor.surrounding == pytest.approx(1 / 3)
    assert plan_captions(store, dataset, spec, BANK, limit=10, noise=True).requests == 0
    assert run(store, dataset, spec, [endpoint], scratch)[0] == first


def test_a_plan_says_what_it_will_cost(store, dataset, spec, tokenizer, endpoint, scratch):
    plan = plan_captions(store, dataset, spec, BANK)
    assert estimate(store, plan).seconds is None
    run(store, dataset, spec, [endpoint], scratch)
    other = plan_captions(store, dataset, make_spec(tokenizer, templates={"joint": "Other."}), BANK)
    found = estimate(store, other, Price(per_million_prompt=1.0, per_million_completion=2.0))
    assert (found.requests, found.prompt_tokens, found.completion_tokens) == (24, 24 * 40, 24 * 12)
    assert found.cost == pytest.approx((24 * 40 + 2 * 24 * 12) / 1e6) and found.seconds > 0
    assert "nearest earlier spec" in found.measured


def test_refusals_of_ragged_sets(store, dataset, spec, tokenizer, endpoint, scratch):
    from schemas.errors import VipError
    from vip.captioning.project import project_shard

    made, _ = run(store, dataset, spec, [endpoint], scratch)
    captions = [store.require(ref) for ref in made.inputs.values()]
    with pytest.raises(VipError, match="has no captions"):
        make_caption_set(store, dataset, captions[1:])
    run(store, dataset, make_spec(tokenizer, budget={"centre": 50}), [endpoint], scratch)
    other = make_spec(tokenizer, budget={"centre": 50})
    mixed = [project_shard(store, store.require(captions[0].inputs["shard"]), other, BANK), *captions[1:]]
    with pytest.raises(VipError, match="several specs"):
        make_caption_set(store, dataset, mixed)
    with pytest.raises(VipError, match="no answer yet"):
        fresh = make_spec(tokenizer, sampling={"seed": 9})
        project_shard(store, store.require(captions[0].inputs["shard"]), fresh, BANK)


def test_captions_are_joined_one_shard_after_the_other(store, dataset, spec, endpoint, scratch):
    made, _ = run(store, dataset, spec, [endpoint], scratch)
    seen = []

    def watched():
        for one in find_captions(store, dataset, spec, BANK, 0):
            assert all(earlier() is None for earlier in seen[1:-1]), "more than the first and the last are held"
            seen.append(weakref.ref(one))
            yield one

    assert make_caption_set(store, dataset, watched()) == made and len(seen) == len(made.inputs) > 2


def test_a_store_over_a_network_is_asked_for_many_shards_at_once_and_in_order(spec, scratch, tmp_path):
    """Look-ups that wait for each other: they would never end one after another."""
    remote = ArtifactStore(f"memory://plan-{uuid.uuid4().hex}")
    dataset = make_dataset(remote, write_images(tmp_path / "images", 24))
    with serving(FakeServer()) as url:
        run(remote, dataset, spec, [url], scratch)
    together, find = threading.Barrier(4, timeout=20), remote.find

    def waiting(recipe):
        together.wait()
        return find(recipe)

    remote.find = waiting
    plan = plan_captions(remote, dataset, spec, BANK)
    assert list(plan.done) == list(plan.shards) and len(plan.done) == 4 and not plan.work
    assert plan.done == {prefix: remote.require(ref).stats["samples"] for prefix, ref in plan.shards.items()}
