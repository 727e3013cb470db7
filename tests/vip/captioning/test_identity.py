"""Request identity: what changes it, what does not, and which pixels a request sees."""

import base64
import io
import json

import numpy as np
import pytest
from aiohttp import web
from PIL import Image

from schemas.bank import Bank
from schemas.canonical import sha256_hex
from schemas.errors import VipError
from schemas.region import BrushRegion, CentreRegion, FileRegion, SidesRegion, View, masks_of, read_region
from schemas.spec import CaptionSpec
from schemas.tables import CAPTIONS
from storage.tables import read_table
from tests.fake_openai import FakeServer, serving
from tests.vip.captioning.helpers import BANK, captions_of, jpeg, make_spec, make_tokenizer, run
from vip.captioning.plan import plan_captions
from vip.captioning.project import make_judge
from vip.captioning.request import RequestBuilder
from vip.captioning.rows import Row, Sample
from vip.captioning.specs import builtin_specs, load_spec, resolve_spec, resolve_tokenizer
from vip.serving.identity import server_version

VIEW = View(width=16, height=16)
SPEC = "strategy: joint\nmodel: {id: x}\ntemplates: {joint: a}"


def row(width=16, height=16, format="PNG", mode="RGB", orientation=1, view=VIEW, region=None, key="c" * 64):
    return Row(Sample(key, format, width, height, orientation, mode), view, region or CentreRegion())


def identity(spec, part="joint", draw=0, **of):
    return RequestBuilder(spec).request(row(**of), part, draw).request_id


@pytest.mark.parametrize(
    "changes",
    [
        {"model": {"id": "fake", "revision": "b" * 64, "server": "vllm 0", "declared": True}},
        {"model": {"id": "fake", "revision": "a" * 64, "server": "vllm 1", "declared": True}},
        {"model": {"id": "fake", "revision": "a" * 64, "server": "vllm 0", "dtype": "bfloat16", "declared": True}},
        {"templates": {"joint": "Describe it."}},
        {"sampling": {"temperature": 0.5}},
        {"sampling": {"top_p": 0.9}},
        {"sampling": {"max_tokens": 65}},
        {"sampling": {"seed": 1}},
        {"constraint": {"joint": {"regex": "[a-z]+"}}},
    ],
    ids=str,
)
def test_whatever_decides_an_answer_changes_the_identity(spec, tokenizer, changes):
    other = make_spec(tokenizer, **changes)
    assert identity(other) != identity(spec)
    assert other.answers_id != spec.answers_id and other.spec_id != spec.spec_id


def test_image_view_and_preprocessing_change_it_where_they_change_what_is_sent(spec, tokenizer):
    base = identity(spec)
    assert identity(spec, key="d" * 64) != base
    assert identity(spec, draw=1) != base
    assert identity(spec, view=View(width=32, height=32)) != base
    assert identity(spec, view=View(width=8, height=8)) == base  # the same original bytes are sent
    assert (
        identity(spec, region=SidesRegion(left=0.25)) == base
    )  # the text does not name the region, nothing is blanked
    jpeg_spec = make_spec(tokenizer, preprocessing={"format": "jpeg"})
    assert identity(jpeg_spec) == base  # the original bytes are sent either way
    assert identity(jpeg_spec, width=20) != identity(spec, width=20)
    centre, other = (
        make_spec(tokenizer, strategy="split"),
        make_spec(tokenizer, strategy="split", preprocessing={"blank": 0}),
    )
    assert identity(centre, "centre") != identity(other, "centre")
    assert identity(centre, "centre") != identity(centre, "centre", region=SidesRegion(left=0.25))


def test_how_answers_are_read_changes_no_request(spec, tokenizer):
    other = make_spec(tokenizer, name="other", parser="prose", budget={"centre": 10}, leak_share=0.5)
    assert identity(other) == identity(spec) and other.answers_id == spec.answers_id
    assert other.spec_id != spec.spec_id
    assert make_spec(tokenizer, name="renamed").spec_id == spec.spec_id


def test_the_mark_of_the_image_may_stand_in_a_text(tokenizer):
    spec = make_spec(tokenizer, strategy="imagine", templates={"imagine": "<<image>> with {keywords}"})
    spec = spec.model_copy(update={"keywords": ("<<image>>",)})
    request = RequestBuilder(spec).request(row(), "imagine", 0)
    content = json.loads(request.template.head + b"data:," + request.template.tail)["messages"][0]["content"]
    assert content[0]["image_url"]["url"] == "data:,"
    assert content[1]["text"] == "<<image>> with <<image>>"


def pixels_of(body):
    url = json.loads(body)["messages"][0]["content"][0]["image_url"]["url"]
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGB"))


def test_each_part_sees_only_what_it_may(tokenizer):
    rng = np.random.default_rng(0)
    pixels = rng.integers(130, 255, (16, 16, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    for strategy, part in (("joint", "joint"), ("split", "centre"), ("split", "surrounding"), ("imagine", "imagine")):
        spec = make_spec(tokenizer, strategy=strategy)
        request = RequestBuilder(spec).request(row(), part, 0)
        seen = pixels_of(request.body(buffer.getvalue(), spec))
        kept, rest = (
            seen[4:12, 4:12],
            np.delete(seen.reshape(-1, 3), [y * 16 + x for y in range(4, 12) for x in range(4, 12)], 0),
        )
        assert (kept == 128).all() == (part == "surrounding")
        assert (rest == 128).all() == (part in ("centre", "imagine"))
        if part != "surrounding":
            assert (kept == pixels[4:12, 4:12]).all()


@pytest.mark.parametrize(
    ("of", "original"),
    [
        ({}, True),
        ({"format": "JPEG"}, True),
        ({"width": 32, "height": 32}, True),
        ({"width": 64, "height": 64}, False),  # sixteen times the pixels of the view
        ({"width": 20}, False),  # cropped
        ({"width": 8, "height": 8}, False),  # smaller than the view
        ({"orientation": 6}, False),
        ({"format": "GIF"}, False),
        ({"mode": "RGBA"}, False),
        ({"mode": "CMYK"}, False),
    ],
    ids=str,
)
def test_original_bytes_are_sent_where_they_show_the_view(spec, of, original):
    size = (of.get("width", 16), of.get("height", 16))
    data = jpeg(size)
    request = RequestBuilder(spec).request(row(**of), "joint", 0)
    url = json.loads(request.body(data, spec))["messages"][0]["content"][0]["image_url"]["url"]
    assert (base64.b64decode(url.partition(",")[2]) == data) == original


def test_the_kept_box_and_the_region_are_told(tokenizer):
    spec = make_spec(tokenizer, templates={"joint": "Kept {box}: {region}."})
    text = RequestBuilder(spec).text(VIEW, CentreRegion(), "joint")
    assert text == "Kept 4 4 12 12: the central 50% of the width and height."
    text = RequestBuilder(spec).text(VIEW, SidesRegion(left=0.25, top=0.5), "joint")
    assert text.startswith("Kept 4 8 16 16: everything but a band of 25% at the left and 50% at the top")
    assert "Kept " in RequestBuilder(spec).text(VIEW, BrushRegion(seed=3), "joint")


@pytest.mark.parametrize(
    "changes",
    [
        {"model": {"id": "fake", "revision": "b" * 64, "server": "vllm 0", "declared": True}},
        {"templates": {"joint": "Other."}},
        {"sampling": {"temperature": 0.25}},
    ],
    ids=str,
)
def test_after_a_change_no_old_answer_is_used(store, dataset, spec, tokenizer, server, endpoint, scratch, changes):
    server.text = lambda body: "Center: old; Surrounding: answer"
    run(store, dataset, spec, [endpoint], scratch)
    server.text = lambda body: "Center: new; Surrounding: reply"
    captions, _ = captions_of(store, run(store, dataset, make_spec(tokenizer, **changes), [endpoint], scratch)[0])
    assert {row["centre"] for row in captions} == {"new"} and server.requests == 48


def test_after_the_endpoint_changes_every_answer_is_used(store, dataset, spec, server, endpoint, scratch):
    run(store, dataset, spec, [endpoint], scratch)
    other = FakeServer()
    with serving(other) as url:
        # Captions are gone as after a new parser; the answers are not.
        for path in [*store.backend.list("published/captions"), *store.backend.list("published/caption_set")]:
            store.backend.remove(path)
        _, stats = run(store, dataset, spec, [url], scratch)
    assert stats.requests == other.requests == 0


def test_built_in_specs_are_sound():
    assert {"nano-joint", "nano-split", "nano-imagine", "qwen-joint", "qwen-split", "qwen-imagine"} <= set(
        builtin_specs()
    )
    for name in builtin_specs():
        spec = load_spec(name)
        assert isinstance(spec, CaptionSpec) and spec.name == name


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("strategy: joint", "model: Field required"),
        ("strategy: nope\nmodel: {id: x}\ntemplates: {}", "strategy: Input should be"),
        ("strategy: split\nmodel: {id: x}\ntemplates: {joint: a}", "templates.centre is missing"),
        ("strategy: joint\nmodel: {id: x}\ntemplates: {joint: a}\nsamplings: {}", "samplings: Extra inputs"),
        (f"{SPEC}\nkeywords: [sea]", "keywords: strategy joint takes none"),
        (f"{SPEC}\nconstraint: {{centre: {{regex: a}}}}", "constraint.centre: strategy joint asks joint"),
        (f"{SPEC}\nconstraint: {{joint: {{regx: a}}}}", "constraint.joint holds regx; give one of regex, choice, json"),
        (f"{SPEC}\nconstraint: {{joint: {{regex: a, json: {{}}}}}}", "constraint.joint holds regex, json; give one of"),
        (f"{SPEC}\nconstraint: {{joint: {{}}}}", "constraint.joint holds nothing; give one of"),
        ("[1, 2]", "is no mapping"),
        ("a: [", "is no YAML"),
    ],
    ids=str,
)
def test_a_wrong_spec_is_one_line(tmp_path, text, message):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(VipError) as caught:
        load_spec(str(path))
    assert message in str(caught.value) and str(path) in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(VipError, match="give a file or one of"):
        load_spec(str(tmp_path / "none.yaml"))


def test_a_foreign_endpoint_is_declared_and_checked(tmp_path, tokenizer):
    path = tmp_path / "mine.yaml"
    path.write_text(
        f"strategy: joint\nmodel: {{id: theirs}}\ntemplates: {{joint: Describe.}}\ntokenizer: {tokenizer}\n"
    )
    with serving(FakeServer(model="theirs", version="9.9")) as url:
        spec = resolve_spec(str(path), endpoint=url)
        assert spec.model.declared and spec.model.server == "vllm 9.9"
        assert spec.tokenizer.startswith(f"{tokenizer}@")
    with serving(FakeServer(model="others")) as url, pytest.raises(VipError):
        resolve_spec(str(path), endpoint=url)


@pytest.mark.parametrize(("faults", "server"), [([503, 500], "vllm 9.9"), ([404], "unknown"), ([405], "unknown")])
def test_a_server_that_cannot_tell_its_version_now_is_asked_again(faults, server, monkeypatch):
    monkeypatch.setattr("vip.serving.identity._AGAIN_AFTER", (0.01, 0.01))
    with serving(FakeServer(version="9.9", version_faults=faults)) as url:
        assert server_version(url) == server


def test_a_server_that_never_tells_is_no_unknown_one(monkeypatch):
    monkeypatch.setattr("vip.serving.identity._AGAIN_AFTER", (0.01, 0.01))
    with (
        serving(FakeServer(version_faults=[503] * 3)) as url,
        pytest.raises(VipError, match=r"/version answers 503 .*state the server"),
    ):
        server_version(url)


@pytest.mark.parametrize("version", [None, [], {"a": 1}])
def test_a_server_whose_version_is_of_another_shape_is_unknown(version, monkeypatch):
    async def told(*_):
        return web.json_response(version)

    monkeypatch.setattr(FakeServer, "_version", told)
    with serving(FakeServer()) as url:
        assert server_version(url) == "unknown"


def test_captions_are_counted_by_the_tokenizer_that_names_them_or_not_at_all(tmp_path):
    folder = make_tokenizer(tmp_path / "tokenizer")
    before = make_spec(folder)
    assert make_judge(before).counter.count("wolf") == 3
    file = folder / "tokenizer.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "post_processor": None}))
    with pytest.raises(VipError, match="named by") as caught:
        make_judge(before)
    after = make_spec(folder)
    assert before.tokenizer.rpartition("@")[2] in caught.value.reason
    assert after.tokenizer.rpartition("@")[2] in caught.value.reason
    assert make_judge(after).counter.count("wolf") == 1  # by the file as it is, though the old one was loaded before


@pytest.mark.parametrize("place", ["at@home", "~/tokenizer"])
def test_a_tokenizer_may_lie_anywhere(tmp_path, monkeypatch, place):
    monkeypatch.setenv("HOME", str(tmp_path))
    make_tokenizer(tmp_path / "tokenizer")
    make_tokenizer(tmp_path / "at@home")
    given = place if place.startswith("~") else str(tmp_path / place)
    spec = make_spec(given)
    assert make_judge(spec).counter.count("wolf") == 3
    assert spec.params["tokenizer"] == make_spec(tmp_path / "tokenizer").params["tokenizer"]
    assert resolve_tokenizer(spec.tokenizer) == spec.tokenizer


@pytest.mark.parametrize(
    ("file", "text"), [("tokenizer.json", "{}"), ("tokenizer_config.json", "[no"), ("tokenizer_config.json", "[]")]
)
def test_a_damaged_tokenizer_is_one_line(tmp_path, file, text):
    (make_tokenizer(tmp_path / "tokenizer") / file).write_text(text)
    with pytest.raises(VipError, match=r"the tokenizer in .*/tokenizer cannot be read: [^\n]*$"):
        make_judge(make_spec(tmp_path / "tokenizer"))


def test_the_plan_asks_no_server(store, dataset, spec):
    plan = plan_captions(store, dataset, spec, BANK, limit=5)
    assert plan.rows == 5 and plan.requests == 5


def test_a_mask_is_named_by_its_content_wherever_it_lies(store, dataset, spec, server, endpoint, scratch, tmp_path):
    made = []
    for place in ("here", "there"):
        file = tmp_path / place / "mask.png"
        file.parent.mkdir()
        Image.fromarray(np.repeat([[0, 255]], [8, 8], axis=1).repeat(16, axis=0).astype(np.uint8)).save(file)
        region = FileRegion(path=str(file), sha256=sha256_hex(file.read_bytes()))
        made.append(run(store, dataset, spec, [endpoint], scratch, BANK.model_copy(update={"regions": (region,)}))[0])
    assert made[0] == made[1] and server.requests == 24
    assert str(tmp_path) not in str(made[0].params)
    captions = next(store.require(ref) for role, ref in made[0].inputs.items() if role.startswith("captions/"))
    row = read_table(store.read(captions, "captions.parquet"), CAPTIONS).to_pylist()[0]
    assert str(tmp_path) not in row["region_json"]
    masks = masks_of(Bank.model_validate(captions.stats["bank"]).regions)
    assert read_region(row["region_json"], masks).path == str(tmp_path / "here" / "mask.png")
