"""From plan to caption set against a server whose answers are known."""

import re

import pytest

from schemas.budget import Budget
from schemas.gate import GateThresholds
from schemas.region import CentreRegion
from storage.answers import Answers
from tests.vip.captioning.helpers import BANK, QUICK, captions_of, make_dataset, make_spec, run, write_images
from vip.captioning.ask import ask
from vip.captioning.ask_stats import AskStats
from vip.captioning.gate import check_captions, run_gate
from vip.captioning.plan import plan_captions


def test_every_row_is_captioned_once_and_a_second_run_asks_nothing(store, dataset, spec, server, endpoint, scratch):
    plan = plan_captions(store, dataset, spec, BANK)
    assert (plan.rows, plan.up_to_date, plan.missing, plan.requests) == (24, 0, 24, 24)
    made, stats = run(store, dataset, spec, [endpoint], scratch)
    captions, rejects = captions_of(store, made)
    assert len(captions) + len(rejects) == 24 == server.requests == stats.requests
    assert len({row["caption_id"] for row in captions}) == len(captions)
    again, stats = run(store, dataset, spec, [endpoint], scratch)
    assert again == made and stats.requests == 0 and server.requests == 24
    assert plan_captions(store, dataset, spec, BANK).up_to_date == 24
    assert not list(scratch.glob("*.journal"))


def test_the_end_of_asking_is_told_however_soon_it_comes(store, dataset, spec, endpoint, scratch):
    told = []
    run(store, dataset, spec, [endpoint], scratch, on_progress=lambda *state: told.append(state))
    what, done, total, detail = told[-1]
    assert (what, done, total) == ("captioning", 24, 24)
    assert re.fullmatch(r"\d+/s, \d+ tokens/s, 0 in flight, \d+ rejected", detail)
    told.clear()
    run(store, dataset, spec, [endpoint], scratch, on_progress=lambda *state: told.append(state))
    assert not told  # nothing was asked


def test_finished_captions_need_no_answer_file(store, dataset, spec, server, endpoint, scratch):
    made, _ = run(store, dataset, spec, [endpoint], scratch)
    for path in list(store.backend.list("answers")):
        store.backend.remove(path)
    assert run(store, dataset, spec, ["http://127.0.0.1:9"], scratch)[0] == made


def test_hyphens_stay_and_the_fields_never_swap(store, dataset, spec, server, endpoint, scratch):
    server.text = lambda body: "Surrounding: half-timbered houses, snow; Center: red-haired woman"
    captions, _ = captions_of(store, run(store, dataset, spec, [endpoint], scratch)[0])
    assert {(row["centre"], row["surrounding"]) for row in captions} == {
        ("red-haired woman", "half-timbered houses, snow")
    }
    assert captions[0]["total"] == "Center: red-haired woman; Surrounding: half-timbered houses, snow"


def test_split_asks_twice_about_other_pixels(store, dataset, tokenizer, server, endpoint, scratch):
    seen = []
    server.text = lambda body: seen.append(body) or ("wolf" if b"the centre" in body else "snow, dusk")
    spec = make_spec(tokenizer, strategy="split")
    captions, rejects = captions_of(store, run(store, dataset, spec, [endpoint], scratch)[0])
    assert len(captions) == 24 and not rejects and len(seen) == 48
    assert {(row["centre"], row["surrounding"]) for row in captions} == {("wolf", "snow, dusk")}
    assert all(len(row["request_ids"]) == 2 for row in captions)


def test_new_names_and_other_shards_use_every_answer(store, dataset, spec, server, endpoint, scratch, tmp_path):
    run(store, dataset, spec, [endpoint], scratch)
    asked = server.requests
    renamed = write_images(tmp_path / "again", 24)
    for number, path in enumerate(sorted(renamed.iterdir(), reverse=True)):
        path.rename(renamed / f"other-{number}.png")
    for bits in (1, 4):
        other = make_dataset(store, renamed, name=f"bits-{bits}", bits=bits)
        captions, _ = captions_of(store, run(store, other, spec, [endpoint], scratch)[0])
        assert len(captions) == 24
    assert server.requests == asked


def test_only_the_changed_image_is_asked_again(store, dataset, spec, server, endpoint, scratch, tmp_path):
    run(store, dataset, spec, [endpoint], scratch)
    write_images(tmp_path / "other", 1, seed=9)
    (tmp_path / "other" / "9-00000.png").rename(tmp_path / "images" / "0-00007.png")
    changed = make_dataset(store, tmp_path / "images")
    plan = plan_captions(store, changed, spec, BANK)
    assert (plan.rows, plan.to_ask) == (24, 1)
    run(store, changed, spec, [endpoint], scratch)
    assert server.requests == 25


def test_answers_lie_as_segments_with_a_description(store, dataset, spec, endpoint, scratch):
    run(store, dataset, spec, [endpoint], scratch)
    answers = Answers(store.backend, spec.answers_id)
    segments = answers.segments("")
    assert sum(segment.rows for segment in segments) == 24
    assert {segment.bits for segment in segments} <= {"00", "01", "10", "11"}
    assert len(answers.look_up("01")) == len(
        [1 for segment in segments if segment.bits == "01" for _ in range(segment.rows)]
    )


def test_the_gate_names_what_fails(store, dataset, spec, server, endpoint, scratch):
    server.text = lambda body: "Center: wolf; Surrounding: wolf"
    made, _ = run(store, dataset, spec, [endpoint], scratch)
    _, verdict = run_gate(store, made)
    assert not verdict.passed
    assert any("leaking" in reason for reason in verdict.reasons)
    assert any("duplicated" in reason for reason in verdict.reasons)


def test_every_image_that_shares_its_text_counts_as_duplicated(store, dataset, spec, server, endpoint, scratch):
    # Two regions an image; one text for half of the images, and one for each other image, twice.
    bank = BANK.model_copy(update={"regions": (CentreRegion(keep=0.5), CentreRegion(keep=0.75))})
    images: dict[bytes, int] = {}

    def text(body):
        number = images.setdefault(re.search(rb"base64,([^\"]+)", body)[1], len(images))
        return f"Center: wolf; Surrounding: {'snow' if number < 12 else f'sea {number}'}"

    server.text = text
    made, _ = run(store, dataset, spec, [endpoint], scratch, bank)
    (found,) = [row for row in check_captions(store, made, GateThresholds(worst=48)) if row["check"] == "duplicated"]
    assert (found["value"], len(found["worst"])) == (0.5, 24)


@pytest.mark.parametrize(
    ("budget", "spent", "most"),
    [
        (Budget(requests=10), AskStats(), 10),
        (Budget(requests=10), AskStats(requests=4), 6),
        (Budget(tokens=1), AskStats(), 24),
        (Budget(hours=1e-9), AskStats(), 0),
    ],
)
def test_a_spent_budget_stops_cleanly_and_the_next_run_goes_on(
    store, dataset, spec, server, endpoint, scratch, budget, spent, most
):
    plan = plan_captions(store, dataset, spec, BANK)
    stats = ask(store, plan, [endpoint], scratch, settings=QUICK, budget=budget, spent=spent)
    assert stats.requests <= most and (stats.stopped or budget.tokens)
    kept = server.requests
    made, stats = run(store, dataset, spec, [endpoint], scratch)
    assert stats.requests == 24 - kept and not stats.stopped and server.requests == 24
    captions, rejects = captions_of(store, made)
    assert len(captions) + len(rejects) == 24
