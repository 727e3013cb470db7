"""What is measured on each image: the known part, the seam, and the words of the drawn world."""

import numpy as np
import pytest

from schemas.evaluate_config import EvaluateConfig
from schemas.tables import IMAGE_METRICS, METRICS
from storage.store import ArtifactStore
from storage.tables import read_table
from tests.vip.evaluation.world import make_world
from vip.evaluation.evaluate import evaluate
from vip.evaluation.known_part import ssim_known
from vip.evaluation.obedience import Obedience, obedience_of, words_seen
from vip.evaluation.seam import seam_error
from vip.nano.answers import ATTRIBUTES, labels_of
from vip.nano.scene import make_scene


def centred(size=32, kept=16):
    mask = np.ones((size, size), np.uint8)
    band = (size - kept) // 2
    mask[band : size - band, band : size - band] = 0
    return mask


def test_ssim_looks_at_the_known_part_only():
    rng = np.random.default_rng(0)
    real, mask = rng.integers(0, 256, (32, 32, 3), np.uint8), centred()
    other = np.where(mask[..., None] == 1, rng.integers(0, 256, (32, 32, 3), np.uint8), real)
    assert ssim_known(real, other, mask) == pytest.approx(1)
    other[12:20, 12:20] = 0
    assert ssim_known(real, other, mask) < 0.9
    assert ssim_known(real, other, centred(32, 4)) is None


def test_the_seam_of_an_original_is_none_and_a_jump_is_its_size():
    mask = centred()
    slope = np.repeat(np.arange(32, dtype=np.uint8)[None, :, None] * 4, 32, axis=0).repeat(3, axis=2)
    assert seam_error(slope, slope, mask) == 0
    lifted = np.where(mask[..., None] == 1, slope + 40, slope).astype(np.uint8)
    assert seam_error(slope, lifted, mask) == pytest.approx(38, abs=3)
    # Noise far from the border does not matter.
    noisy = slope.copy()
    noisy[:3] = 255
    assert seam_error(slope, noisy, mask) == 0


def test_obedience_counts_the_words_that_are_seen_at_their_place():
    seen = {"terrain": "sea", "time": "noon", "left kind": "house", "left colour": "blue", "below kind": "flowers"}
    found = obedience_of("red house", "sea, dawn, blue house left, white kite above", seen)
    # sea, blue and house left are right; dawn, white and kite above are not.
    assert found.obeyed == pytest.approx(3 / 6)
    assert obedience_of("red house", "", seen).obeyed is None


def test_a_thing_without_a_place_is_obeyed_anywhere_but_where_the_centre_stands():
    asked = "sea, blue house, pine"
    assert obedience_of("red cat", asked, {"left kind": "house", "left colour": "blue", "right kind": "pine"}) == (
        pytest.approx(3 / 4),
        0,
    )
    # A house of another colour is half of it; two things do not lend each other their colours.
    near = {"left kind": "house", "left colour": "red", "right kind": "tent", "right colour": "blue"}
    assert obedience_of("white cat", asked, near).obeyed == pytest.approx(1 / 4)
    # What is kept in the middle is no answer, unless the centre text leaves the middle open.
    kept = {"kind": "house", "colour": "blue"}
    assert obedience_of("blue house", asked, kept).obeyed == 0
    assert obedience_of("meadow", asked, kept).obeyed == pytest.approx(2 / 4)
    # A kind that is asked for anywhere is no contamination.
    assert obedience_of("red house", "sea, house", {"left kind": "house", "left colour": "white"}).contaminated == 0
    assert obedience_of("red house", "sea, tent", {"left kind": "house", "left colour": "white"}).contaminated > 0


def test_contamination_counts_foreign_words_only():
    asked = "sea, blue tent left"
    clean = {"left kind": "tent", "left colour": "blue"}
    assert obedience_of("red house", asked, clean).contaminated == 0
    dirty = {"left kind": "house", "left colour": "red", "right colour": "red"}
    assert obedience_of("red house", asked, dirty).contaminated > 0
    # Red was asked for on the left, so red on the left is obedience.
    wanted = obedience_of("red cat", "sea, red tent left", {"left kind": "tent", "left colour": "red"})
    assert wanted == Obedience(pytest.approx(2 / 3), 0)


def test_labels_become_words():
    scene = make_scene(5)
    (seen,) = words_seen(np.array([labels_of(scene)]))
    assert seen["terrain"] == scene.terrain and seen["kind"] == scene.subject.kind
    assert set(seen) <= set(ATTRIBUTES)


def test_means_stand_on_the_values_of_every_image(tmp_path):
    store = ArtifactStore(tmp_path / "root")
    dataset, prompts, checkpoint = make_world(store, tmp_path / "pictures", count=12)
    config = EvaluateConfig(
        settings=("oracle", "control:noise"), steps=1, images=3, resamples=100, diversity=1, floor=False
    )
    evaluation = evaluate(store, config, checkpoint, dataset, prompts)
    rows = read_table(store.read(evaluation, "metrics.parquet"), METRICS).to_pylist()
    images = read_table(store.read(evaluation, "images.parquet"), IMAGE_METRICS).to_pylist()
    for metric in ("ssim_known_unpasted", "seam_error", "psnr_known_unpasted"):
        row = next(row for row in rows if (row["metric"], row["setting"]) == (metric, "oracle"))
        values = [one["value"] for one in images if (one["metric"], one["setting"]) == (metric, "oracle")]
        assert len(values) == row["n"] == 3 and row["value"] == pytest.approx(np.mean(values))
    diversity = next(row for row in rows if row["metric"] == "diversity")
    assert diversity["value"] > 0 and diversity["setting"] == "oracle"
    noise = {row["metric"]: row["value"] for row in rows if row["setting"] == "control:noise"}
    assert noise["psnr_known_unpasted"] < 12 and noise["known_part_exact"] == 1
    assert evaluation.inputs["samples/control:noise/0"] in [
        made.ref for made in store.list("samples") if "checkpoint" not in made.inputs
    ]
