import hashlib

import numpy as np
import pytest

from schemas.region import CentreRegion, SidesRegion, View
from vip.nano.dataset import write_scenes
from vip.nano.regions import mask_of
from vip.nano.scene import TRAINING_SEEDS, make_scene
from vip.nano.truth import truth
from vip.nano.vocabulary import COLOURED, KINDS, SCENERY, SIDES, SUBJECTS, TERRAINS, THINGS, TIMES, WEATHERS
from vip.nano.world import SUBJECT, draw, draw_seeds, owner_map


def test_the_world_is_as_rich_as_promised():
    only_outside = {kind for side in SIDES for kind in THINGS[side]} - set(SUBJECTS)
    assert len(SUBJECTS) >= 8 and len(TERRAINS) >= 6 and len(TIMES) >= 5 and len(WEATHERS) >= 4
    assert len(only_outside) >= 10
    assert set(SUBJECTS) & {kind for side in SIDES for kind in THINGS[side]} & COLOURED


def test_a_seed_gives_the_same_picture_and_another_seed_another():
    assert np.array_equal(draw(make_scene(5)), draw(make_scene(5)))
    pictures = draw_seeds(range(50))
    assert pictures.shape == (50, 64, 64, 3) and pictures.dtype == np.uint8
    assert len({picture.tobytes() for picture in pictures}) == 50


def test_attributes_of_a_seed_never_change():
    """Weights and exams are tied to these scenes."""
    scenes = [make_scene(seed) for seed in range(200)]
    text = "\n".join(truth(scene, mask_of(CentreRegion())).text for scene in scenes)
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "4c3b4ae3bf7bc466"


def test_colours_and_kinds_occur_in_both_regions():
    facts = [truth(make_scene(seed), mask_of(CentreRegion())) for seed in range(400)]
    centre = {word for fact in facts for phrase in fact.centre for word in phrase.split()}
    around = {word for fact in facts for phrase in fact.surrounding for word in phrase.split()}
    assert {"house", "tent", "balloon", "red", "white"} <= centre & around
    assert set(KINDS) | set(SCENERY) <= centre | around


def test_the_central_half_holds_the_subject_and_nothing_else():
    for seed in range(100):
        scene = make_scene(seed)
        facts = truth(scene, mask_of(CentreRegion(keep=0.5)))
        assert facts.centre == (scene.subject.phrase,)
        assert facts.surrounding[:3] == (scene.terrain, scene.time, scene.weather)
        assert facts.surrounding[3:] == tuple(thing.phrase for thing in scene.things)


def test_truth_follows_the_region():
    scene = next(s for s in map(make_scene, range(100)) if {t.side for t in s.things} >= {"left", "right"})
    left, right = scene.things[0].phrase, scene.things[1].phrase
    facts = truth(scene, mask_of(SidesRegion(left=0.25)))
    assert left in facts.surrounding and right in facts.centre and scene.subject.phrase in facts.centre
    facts = truth(scene, mask_of(SidesRegion(right=0.25)))
    assert right in facts.surrounding and left in facts.centre
    facts = truth(scene, mask_of(CentreRegion(keep=0.875)))
    assert left in facts.centre and right in facts.centre


def test_time_of_day_is_told_where_the_sky_is():
    scene = make_scene(3)
    below = truth(scene, mask_of(SidesRegion(bottom=0.375)))
    assert scene.time in below.centre and scene.terrain in below.surrounding
    above = truth(scene, mask_of(SidesRegion(top=0.375)))
    assert scene.time in above.surrounding and scene.terrain in above.centre


def test_neither_half_is_ever_without_a_word():
    for seed in range(60):
        for region in (CentreRegion(keep=0.125), CentreRegion(keep=0.9), SidesRegion(top=0.1), SidesRegion(left=0.9)):
            facts = truth(make_scene(seed), mask_of(region))
            assert facts.centre and facts.surrounding


def test_truth_follows_the_view():
    scene = next(s for s in map(make_scene, range(100)) if s.things[0].side == "left")
    tall = View(width=32, height=64)
    mask = np.ones((64, 32), np.uint8)
    mask[16:48, 8:24] = 0
    assert scene.things[0].phrase not in truth(scene, mask, tall).surrounding, "cropped away"


def test_the_owner_map_shows_the_subject_in_the_middle():
    owners = owner_map(make_scene(1))
    assert owners.shape == (128, 128)
    rows, columns = np.nonzero(owners == SUBJECT)
    assert abs(rows.mean() - 64) < 16 and abs(columns.mean() - 64) < 16


def test_scenes_are_written_once(tmp_path):
    paths = write_scenes(tmp_path, 3)
    before = [path.read_bytes() for path in paths]
    again = write_scenes(tmp_path, 3)
    assert again == paths and [path.read_bytes() for path in again] == before
    with pytest.raises(ValueError):
        write_scenes(tmp_path, 2, first_seed=TRAINING_SEEDS - 1)
