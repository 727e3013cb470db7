"""An exam: pinned images and texts, pictures that do not depend on batches, work that is never done twice."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from schemas.bank import Bank
from schemas.canonical import sha256_hex
from schemas.errors import VipError
from schemas.evaluate_config import PRESETS, EvaluateConfig
from schemas.region import BrushRegion, CentreRegion, FileRegion, View
from schemas.tables import GENERATED, METRICS
from storage.store import ArtifactStore
from storage.tables import read_table
from tests.vip.evaluation.world import draw_pictures, make_captions, make_checkpoint, make_dataset, make_world
from vip.evaluation.compare import compare
from vip.evaluation.evaluate import evaluate
from vip.evaluation.exam import read_exam, texts_of
from vip.evaluation.features import read_generated
from vip.evaluation.sample import Sampler, make_samples
from vip.machine import machine
from vip.regions.mask import render_mask

SETTINGS = ("oracle", "centre_only", "unconditional", "control:swapped")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exam")
    store = ArtifactStore(folder / "root")
    return store, *make_world(store, folder / "pictures")


def config(**changes):
    return EvaluateConfig(**{"settings": SETTINGS, "steps": 2, "images": 6, "resamples": 100, **changes})


def metrics(store, evaluation):
    return read_table(store.read(evaluation, "metrics.parquet"), METRICS).to_pylist()


def generated(store, evaluation, setting="oracle"):
    samples = store.require(evaluation.inputs[f"samples/{setting}/0"])
    rows = read_table(store.read(samples, "samples.parquet"), GENERATED).to_pylist()
    pictures = [dict(read_generated(store, samples, which)) for which in ("pasted", "unpasted")]
    return rows, *pictures


def test_every_setting_is_measured_apart_and_every_figure_has_an_id(world):
    store, dataset, prompts, checkpoint = world
    evaluation = evaluate(store, config(), checkpoint, dataset, prompts)
    rows = metrics(store, evaluation)
    assert {row["setting"] for row in rows} == {*SETTINGS, "control:real"}
    assert len({row["metric_id"] for row in rows}) == len(rows)
    by_name = {(row["metric"], row["setting"]): row for row in rows}
    frechet = by_name["frechet_distance", "oracle"]
    assert frechet["network"].startswith("efficientnet-lite0@") and frechet["low"] is None and frechet["n"] == 6
    assert by_name["frechet_distance", "control:real"]["n"] == 6
    assert frechet["caption_set"] == prompts["oracle"].digest
    assert by_name["kid", "centre_only"]["caption_set"] == prompts["centre_only"].digest
    assert by_name["kid", "unconditional"]["caption_set"] == ""
    assert by_name["kid", "oracle"]["low"] <= by_name["kid", "oracle"]["high"]
    assert by_name["known_part_exact", "oracle"]["value"] == 1
    assert by_name["psnr_known_unpasted", "oracle"]["value"] < by_name["psnr_known_pasted", "oracle"]["value"] == 100


def test_what_an_exam_was_computed_on_stands_beside_it_and_in_no_key(world):
    store, dataset, prompts, checkpoint = world
    evaluation = evaluate(store, config(), checkpoint, dataset, prompts)
    parts = [store.require(ref) for ref in evaluation.inputs.values() if ref.kind in ("samples", "features")]
    assert parts and all(one.stats["machine"] == machine() for one in (evaluation, *parts))
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        assert evaluate(store, config(), checkpoint, dataset, prompts) == evaluation
    finally:
        torch.set_num_threads(threads)


def test_pictures_as_generated_are_measured_under_names_of_their_own(world):
    store, dataset, prompts, checkpoint = world
    plain = config(settings=("oracle", "control:noise"), images=4)
    without = evaluate(store, plain, checkpoint, dataset, prompts)
    assert "unpasted" not in without.params  # keeps the key that such exams always had
    evaluation = evaluate(store, plain.model_copy(update={"unpasted": True}), checkpoint, dataset, prompts)
    rows = {(row["metric"], row["setting"]): row for row in metrics(store, evaluation)}
    for metric in ("frechet_distance", "kid", "inception_score"):
        pasted, whole = rows[metric, "oracle"], rows[f"{metric}_unpasted", "oracle"]
        assert pasted["value"] != whole["value"] and pasted["caption_set"] == whole["caption_set"]
        assert pasted == next(
            row | {"metric_id": pasted["metric_id"]} for row in metrics(store, without) if row["metric"] == metric
        )
    # Noise that nothing was pasted into lies further away.
    assert rows["kid_unpasted", "control:noise"]["value"] > rows["kid", "control:noise"]["value"]
    verdicts = {(row["metric"], row["setting"]): row for row in compare(store, evaluation, evaluation)}
    assert verdicts["kid_unpasted", "oracle"]["gain"] == 0


@pytest.mark.parametrize("name", list(PRESETS))
def test_presets_are_of_the_stated_size_and_share(name):
    view, region = PRESETS[name]
    mask = render_mask(region, view)
    size, _, what = name.partition("-")
    assert mask.shape == ((int(size),) * 2 if size.isdigit() else (64, 64))
    rows, columns = (np.flatnonzero((mask == 0).any(axis=axis)) for axis in (1, 0))
    edges = (columns[0], rows[0], mask.shape[1] - 1 - columns[-1], mask.shape[0] - 1 - rows[-1])
    if what.isdigit():  # a square of exactly so many pixels, exactly in the middle
        assert mask.size - mask.sum() == int(what) ** 2 and len(set(edges)) == 1
    elif what == "sides":
        assert edges[0] == edges[2] > 0 == edges[1] == edges[3]
    elif what == "corner":
        assert edges[2] == edges[3] > 0 == edges[0] == edges[1]
    elif what == "brush":
        assert 0.45 < mask.mean() < 0.75


def test_the_fields_conventions_have_their_names():
    areas = {name: 192**2 / int(name[4:]) ** 2 for name in ("192-128", "192-86", "192-56")}
    assert [round(area, 2) for area in areas.values()] == [2.25, 4.98, 11.76] and set(areas) <= set(PRESETS)


def test_each_setting_tells_the_model_its_own_text(world):
    store, dataset, prompts, checkpoint = world
    evaluation = evaluate(store, config(), checkpoint, dataset, prompts)
    told = {setting: generated(store, evaluation, setting)[0] for setting in SETTINGS}
    for oracle, centre_only, nothing, swapped in zip(*told.values(), strict=True):
        assert oracle["center_prompt"] == f"oracle ball {oracle['image_sha256'][:4]}"
        assert centre_only["center_prompt"].startswith("centre_only ball")
        assert nothing["center_prompt"] == nothing["surrounding_prompt"] == "" and nothing["caption_id"] is None
        assert (swapped["center_prompt"], swapped["surrounding_prompt"]) == (
            oracle["surrounding_prompt"],
            oracle["center_prompt"],
        )


def test_a_picture_depends_on_its_batch_by_rounding_alone_and_its_key_says_so(world):
    store, dataset, prompts, checkpoint = world
    few = evaluate(store, config(images=2, settings=("oracle",), batch_size=1), checkpoint, dataset, prompts)
    many = evaluate(store, config(), checkpoint, dataset, prompts)
    ours, theirs = generated(store, few)[2], generated(store, many)[2]
    assert len(ours) == 2
    other = evaluate(store, config(batch_size=1), checkpoint, dataset, prompts)
    assert other.inputs["samples/oracle/0"].key != many.inputs["samples/oracle/0"].key
    for sha, pixels in ours.items():
        gap = np.abs(pixels.astype(int) - theirs[sha].astype(int))
        assert gap.max() <= 1  # kernels may round differently with the size of the batch


def examine(store, checkpoint, dataset, region, **changes):
    alone = {"settings": ("unconditional",), "images": 2, "floor": False, "view": View(width=64, height=64)}
    return evaluate(store, config(**alone, region=region, **changes), checkpoint, dataset, {})


def test_regions_that_differ_by_less_than_their_ids_show_have_samples_of_their_own(world):
    store, dataset, _, checkpoint = world
    near, nearer = (examine(store, checkpoint, dataset, CentreRegion(keep=keep)) for keep in (0.515625, 0.51563))
    assert near.inputs["samples/unconditional/0"].key != nearer.inputs["samples/unconditional/0"].key


def test_samples_of_a_mask_file_are_the_same_wherever_it_lies(world, tmp_path):
    store, dataset, _, checkpoint = world
    Image.fromarray(np.repeat([[0, 255]], 32, axis=1).repeat(64, axis=0).astype(np.uint8)).save(tmp_path / "one.png")
    shutil.copy(tmp_path / "one.png", tmp_path / "two.png")
    sha256 = sha256_hex((tmp_path / "one.png").read_bytes())
    regions = [FileRegion(path=str(tmp_path / name), sha256=sha256) for name in ("one.png", "two.png")]
    made = examine(store, checkpoint, dataset, regions[0])
    other = ArtifactStore(tmp_path / "root")
    dataset, _, checkpoint = make_world(other, tmp_path / "pictures")
    again = examine(other, checkpoint, dataset, regions[1])
    assert made.inputs["samples/unconditional/0"] == again.inputs["samples/unconditional/0"]
    (rows, *_) = generated(store, made, "unconditional")
    assert str(tmp_path) not in str(rows)


def test_a_second_time_makes_nothing(world, monkeypatch):
    store, dataset, prompts, checkpoint = world
    first = evaluate(store, config(), checkpoint, dataset, prompts)
    calls = []
    monkeypatch.setattr("vip.evaluation.sample.Sampler.pipeline", property(lambda self: calls.append(self)))
    monkeypatch.setattr("vip.evaluation.networks.EfficientNetLite0.__call__", lambda *_: calls.append(1))
    assert evaluate(store, config(), checkpoint, dataset, prompts) == first
    assert not calls


def test_another_model_costs_only_its_own(world, monkeypatch):
    store, dataset, prompts, checkpoint = world
    evaluate(store, config(), checkpoint, dataset, prompts)
    asked = []
    evaluate(
        store,
        config(),
        make_checkpoint(store, seed=1),
        dataset,
        prompts,
        lambda what, done, total: asked.append(what),
    )
    assert "features of real images" not in asked
    assert "sampling, oracle" in asked


def test_images_without_a_caption_are_left_out_of_every_setting(tmp_path):
    store = ArtifactStore(tmp_path / "root")
    dataset = make_dataset(store, draw_pictures(tmp_path / "pictures", 12))
    whole = make_captions(store, dataset, Bank())
    exam = read_exam(store, config(settings=("oracle",), images=None), dataset, {"oracle": whole})
    gone = exam.items[0].image_sha256
    partial = make_captions(store, dataset, Bank(), "centre_only", leave_out=[gone])
    both = {"oracle": whole, "centre_only": partial}
    less = read_exam(store, config(settings=("oracle", "centre_only"), images=None), dataset, both)
    assert [item.image_sha256 for item in less.items] == [item.image_sha256 for item in exam.items[1:]]
    assert less.without_caption == 1
    assert gone in {item.image_sha256 for item in less.spare}


def test_shuffled_captions_are_all_foreign(world):
    store, dataset, prompts, _ = world
    exam = read_exam(store, config(settings=("control:shuffled",), images=None), dataset, prompts)
    own = texts_of(exam, config(), "oracle")
    foreign = texts_of(exam, config(), "control:shuffled")
    assert all(foreign[sha].caption_id != text.caption_id for sha, text in own.items())
    assert {text.caption_id for text in foreign.values()} == {text.caption_id for text in own.values()}


def test_irregular_regions_are_examined_as_they_were_captioned(tmp_path):
    store = ArtifactStore(tmp_path / "root")
    bank = Bank(regions=(BrushRegion(cover=0.5),), seed=4)
    dataset = make_dataset(store, draw_pictures(tmp_path / "pictures", 8))
    exam = read_exam(
        store,
        config(preset="nano-brush", settings=("oracle",)),
        dataset,
        {"oracle": make_captions(store, dataset, bank)},
    )
    assert [item.region for item in exam.items] == [bank.pairs(item.image_sha256)[0][1] for item in exam.items]


def test_what_cannot_be_examined_says_why(world):
    store, dataset, prompts, checkpoint = world
    with pytest.raises(VipError, match="captions of the kind 'centre_only'"):
        evaluate(store, config(), checkpoint, dataset, {"oracle": prompts["oracle"]})
    with pytest.raises(VipError, match="0 images of the test split have captions for 192x192-centre"):
        evaluate(store, config(preset="192-128"), checkpoint, dataset, prompts)
    with pytest.raises(VipError, match="feature network 'inception' is unknown"):
        evaluate(store, config(network="inception"), checkpoint, dataset, prompts)


def test_parts_made_elsewhere_are_all_that_an_exam_needs(tmp_path, monkeypatch):
    from vip.evaluation import evaluate as module

    store = ArtifactStore(tmp_path / "root")
    dataset, prompts, checkpoint = make_world(store, tmp_path / "pictures")
    exam = config(settings=("oracle", "unconditional"), floor=False)
    monkeypatch.setattr(module, "CHUNK", 4)
    parts = module.exam_parts(store, exam, dataset, prompts)
    assert parts == [(name, number) for name in ("oracle", "unconditional", "control:real") for number in range(2)]
    for part in reversed(parts):
        module.make_parts(store, exam, checkpoint, dataset, prompts, [part])
    made = {kind: len(list(store.list(kind))) for kind in ("samples", "features")}
    evaluate(store, exam, checkpoint, dataset, prompts)
    assert {kind: len(list(store.list(kind))) for kind in ("samples", "features")} == made


def test_pictures_are_made_from_the_captions_of_their_own_images_alone(world, monkeypatch):
    store, dataset, prompts, checkpoint = world
    exam = read_exam(store, config(settings=("oracle",), images=None), dataset, prompts)
    texts = texts_of(exam, config(), "oracle")
    sources = {sha: text.source for sha, text in texts.items()}
    few = [item for item in exam.items if sources[item.image_sha256] == sources[exam.items[0].image_sha256]][:2]
    assert len(set(sources.values())) == 2
    monkeypatch.setattr(store, "build", lambda recipe, build: (recipe, True))
    recipe = make_samples(store, config(), Sampler(store, checkpoint), "oracle", few, texts, lambda *_: None)
    made_from = [ref for role, ref in recipe.inputs.items() if role.startswith("captions/")]
    assert made_from == [sources[few[0].image_sha256]]
