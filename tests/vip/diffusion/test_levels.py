import pytest
import torch

from schemas.region import BrushRegion, CentreRegion, SidesRegion, View
from vip.diffusion.levels import blend, level_sizes, plan_level, plan_levels, pooled_mask, take
from vip.regions.mask import render_mask


def pixels(*regions, size=192):
    view = View(width=size, height=size)
    return torch.stack([torch.tensor(render_mask(region, view))[None].float() for region in regions])


@pytest.mark.parametrize("mode", ["area", "nearest"])
@pytest.mark.parametrize("size", [64, 192, 256, 512])
def test_a_centred_mask_is_centred_at_every_level(mode, size):
    mask = pixels(CentreRegion(keep=2 / 3), size=size)
    for height, width in level_sizes(size // 8, size // 8, 4):
        small = pooled_mask(mask, (height, width), mode)
        assert (
            torch.equal(small, small.flip(-1)) and torch.equal(small, small.flip(-2)) and torch.equal(small, small.mT)
        )
        # The 2x2 map of a 64 px image cannot show a kept centre with a hard mask.
        assert small.max() > 0 and (small.min() < 1 or (size == 64 and mode == "nearest"))


def test_the_area_average_is_exact_where_the_mask_is_uniform():
    assert torch.equal(pooled_mask(torch.ones(1, 1, 88, 72), (11, 9), "area"), torch.ones(1, 1, 11, 9))
    assert torch.equal(pooled_mask(torch.zeros(1, 1, 88, 72), (3, 5), "area"), torch.zeros(1, 1, 3, 5))


@pytest.mark.parametrize("mode", ["area", "nearest"])
def test_each_branch_computes_its_own_positions_and_the_blend_is_the_formula(mode):
    mask = pixels(CentreRegion(keep=0.6), SidesRegion(left=0.3), BrushRegion(seed=3))
    shares = []
    for level in plan_levels(mask, (24, 24), 4, mode):
        batch, _, height, width = level.mask.shape
        features = torch.randn(batch, height * width, 5)
        center, surrounding = features * 2 + 1, features * -3
        flat = level.mask.flatten(1).unsqueeze(-1)
        expected = (1 - flat) * center + flat * surrounding
        result = blend(take(center, level.center_rows), take(surrounding, level.surrounding_rows), level)
        assert torch.allclose(result, expected, atol=1e-5)
        shares.append((level.center_rows.shape[1] + level.surrounding_rows.shape[1]) / (height * width))
    assert shares[0] < 1.5


def test_a_hard_mask_costs_one_pass_in_all():
    level = plan_levels(pixels(CentreRegion(keep=0.5)), (24, 24), 1)[0]
    assert level.other is None
    assert level.center_rows.shape[1] + level.surrounding_rows.shape[1] == 24 * 24


def test_a_level_without_a_kept_position_still_works():
    level = plan_level(torch.ones(2, 1, 2, 2))
    features = torch.randn(2, 4, 3)
    result = blend(take(features * 0, level.center_rows), take(features, level.surrounding_rows), level)
    assert torch.equal(result, features)
