"""Distances agree with closed forms and with independent implementations."""

import tracemalloc

import numpy as np
import pytest
import torch
from scipy import linalg
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.inception import InceptionScore
from torchmetrics.image.kid import KernelInceptionDistance

from schemas.errors import VipError
from vip.evaluation.frechet import Moments, frechet_distance
from vip.evaluation.inception_score import inception_score, inception_score_of_parts
from vip.evaluation.interval import mean_of
from vip.evaluation.kid import _Draws, kernel_distance, kernel_distance_gain
from vip.evaluation.known_part import CAP, known_exact, psnr_known

pytestmark = pytest.mark.filterwarnings("ignore:Metric .* will save:UserWarning")


class Passes(torch.nn.Module):
    """A feature network that hands its input on."""

    num_features = 16

    def forward(self, x):
        return x


def two_sets(n=300, width=16, seed=0):
    rng = np.random.default_rng(seed)
    mix = rng.normal(size=(width, width))
    real = rng.normal(size=(n, width)) @ mix
    return real.astype(np.float32), (real * 0.8 + rng.normal(size=(n, width)) + 0.3).astype(np.float32)


def exact_set(mean, covariance, n, rng):
    """Points whose sample mean and unbiased covariance are exactly the given ones."""
    points = rng.normal(size=(n, len(mean)))
    points -= points.mean(axis=0)
    whitened = points @ np.linalg.inv(np.linalg.cholesky(np.cov(points.T)).T)
    return whitened @ np.linalg.cholesky(covariance).T + mean


def test_gaussians_of_known_moments_have_the_closed_form():
    rng = np.random.default_rng(1)
    mean, spread = np.array([1.0, -2.0, 0.5]), np.array([4.0, 1.0, 0.25])
    one = Moments.of([exact_set(np.zeros(3), np.eye(3), 50, rng)])
    two = Moments.of([exact_set(mean, np.diag(spread), 70, rng)])
    # For commuting covariances: |m|^2 + sum (sqrt(c1) - sqrt(c2))^2.
    assert frechet_distance(one, two) == pytest.approx(mean @ mean + ((1 - np.sqrt(spread)) ** 2).sum(), rel=1e-9)
    assert frechet_distance(one, one) == pytest.approx(0, abs=1e-9)


def test_frechet_agrees_with_torchmetrics_and_with_a_matrix_square_root():
    real, made = two_sets()
    ours = frechet_distance(Moments.of([real[:100], real[100:]]), Moments.of([made]))
    theirs = FrechetInceptionDistance(feature=Passes(), normalize=True)
    theirs.update(torch.from_numpy(real), real=True)
    theirs.update(torch.from_numpy(made), real=False)
    assert ours == pytest.approx(float(theirs.compute()), rel=1e-4)
    c1, c2 = np.cov(real.astype(float).T), np.cov(made.astype(float).T)
    gap = real.mean(0, dtype=float) - made.mean(0, dtype=float)
    assert ours == pytest.approx(gap @ gap + np.trace(c1 + c2 - 2 * linalg.sqrtm(c1 @ c2).real), rel=1e-6)


def test_frechet_stands_fewer_images_than_features():
    real, made = two_sets(n=10, width=64)
    distance = frechet_distance(Moments.of([real]), Moments.of([made]))
    assert np.isfinite(distance) and distance > 0


def test_moments_do_not_depend_on_how_the_features_arrive():
    real, _ = two_sets()
    real += 1000  # a large offset is what naive sums of squares lose
    whole, pieces = Moments.of([real]), Moments.of([real[:7], real[7:7], real[7:200], real[200:]])
    np.testing.assert_allclose(pieces.mean, whole.mean, rtol=1e-12)
    np.testing.assert_allclose(pieces.covariance, np.cov(real.astype(float).T), rtol=1e-9)


def test_too_few_images_are_refused():
    with pytest.raises(VipError, match="at least two images"):
        Moments.of([])
    with pytest.raises(VipError, match="at least two images"):
        _ = Moments.of([np.ones((1, 4))]).covariance


def test_kid_agrees_with_torchmetrics():
    real, made = two_sets()
    theirs = KernelInceptionDistance(feature=Passes(), subsets=1, subset_size=len(real), normalize=True)
    theirs.update(torch.from_numpy(real), real=True)
    theirs.update(torch.from_numpy(made), real=False)
    ours = kernel_distance(real, made, resamples=0, confidence=0.95, seed=0)
    assert ours.value == pytest.approx(float(theirs.compute()[0]), rel=1e-4)
    assert ours.low is None and ours.high is None


@pytest.mark.parametrize("paired", [True, False])
def test_kid_does_not_depend_on_its_block_size(monkeypatch, paired):
    real, made = two_sets(n=90)
    whole = kernel_distance(real, made, 0, 0.95, 3, paired)
    monkeypatch.setattr("vip.evaluation.kid._BLOCK", 32)
    assert kernel_distance(real, made, 0, 0.95, 3, paired).value == pytest.approx(whole.value, rel=1e-9)


def test_every_resample_draws_as_many_images_as_there_are(monkeypatch):
    monkeypatch.setattr("vip.evaluation.kid._BLOCK", 32)
    draws = _Draws(90, 500, 1)
    counts = np.concatenate([draws[number] for number in range(3)], axis=1)
    assert (counts.sum(axis=1) == 90).all() and (counts[0] == 1).all()
    assert counts[1:].mean(axis=0) == pytest.approx(np.ones(90), abs=0.25)
    assert counts[1:].var() == pytest.approx(1 - 1 / 90, rel=0.05)  # of a multinomial
    np.testing.assert_array_equal(draws.pairs(), 90**2 - (counts**2).sum(axis=1))


def test_the_memory_of_kid_does_not_grow_with_the_number_of_images(monkeypatch):
    monkeypatch.setattr("vip.evaluation.kid._BLOCK", 128)

    def peak(n):
        real, made = two_sets(n=n)
        tracemalloc.start()
        kernel_distance(real, made, 20, 0.95, 0)
        kernel_distance_gain(real, made, made, 20, 0.95, 0)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(256)
    assert peak(2048) < 1.1 * peak(512)


@pytest.mark.parametrize("block", [512, 32])
@pytest.mark.parametrize("paired", [True, False])
def test_the_interval_of_kid_covers_the_truth_as_often_as_it_says(monkeypatch, block, paired):
    monkeypatch.setattr("vip.evaluation.kid._BLOCK", block)
    rng = np.random.default_rng(5)
    hits, centred = 0, 0.0
    for trial in range(60):
        real = rng.normal(size=(80, 4))
        found = kernel_distance(real, rng.normal(0.4, 1, size=(80, 4)), 200, 0.9, trial, paired)
        # Truth by a large sample, below.
        hits += found.low <= TRUTH <= found.high
        centred += found.value / 60
    assert centred == pytest.approx(TRUTH, rel=0.1)
    assert 47 <= hits <= 60


def _truth():
    rng = np.random.default_rng(99)
    real, made = rng.normal(size=(3000, 4)), rng.normal(0.4, 1, size=(3000, 4))
    return kernel_distance(real, made, 0, 0.9, 0).value


TRUTH = _truth()


def test_inception_score_agrees_with_torchmetrics_and_has_its_bounds():
    logits = np.random.default_rng(2).normal(size=(200, 10)).astype(np.float32) * 3
    theirs = InceptionScore(feature=Passes(), splits=1)
    theirs.update(torch.from_numpy(logits))
    assert inception_score([logits[:50], logits[50:]]) == pytest.approx(float(theirs.compute()[0]), rel=1e-4)
    assert inception_score([np.eye(10) * 1000]) == pytest.approx(10)
    assert inception_score([np.ones((5, 10))]) == pytest.approx(1)


def test_a_mean_has_an_interval_and_a_constant_has_a_point():
    values = np.random.default_rng(3).normal(5, 1, 400)
    found = mean_of(values, 500, 0.95, 0)
    assert found.low < found.value < found.high
    assert found.high - found.low == pytest.approx(2 * 1.96 / 20, rel=0.2)
    assert mean_of(np.full(9, 7.0), 500, 0.95, 0) == (7.0, 7.0, 7.0, 9)


def test_psnr_looks_at_the_known_part_only():
    real = np.full((8, 8, 3), 100, np.uint8)
    mask = np.ones((8, 8), np.uint8)
    mask[2:6, 2:6] = 0
    other = np.where(mask[..., None] == 1, np.uint8(0), real)
    assert psnr_known(real, other, mask) == CAP
    assert known_exact(real, other, mask)
    other[2:6, 2:6] = 110
    assert psnr_known(real, other, mask) == pytest.approx(20 * np.log10(255 / 10))


def test_one_grey_level_is_not_exact_though_its_psnr_is_that_of_an_identical_picture():
    real = np.full((512, 512, 3), 100, np.uint8)
    other, mask = real.copy(), np.zeros((512, 512), np.uint8)
    other[256, 256, 0] += 1
    assert psnr_known(real, other, mask) == CAP and not known_exact(real, other, mask)


def test_the_score_over_parts_is_the_mean_of_the_parts_however_the_logits_come():
    logits = np.random.default_rng(5).normal(size=(107, 12)) * 3
    parts = [logits[10 * i : 10 * i + 10] for i in range(9)] + [logits[90:]]
    expected = [inception_score([part]) for part in parts]
    for pieces in ([logits], [logits[:3], logits[3:64], logits[64:]]):
        mean, deviation = inception_score_of_parts(pieces, 107)
        assert mean == pytest.approx(np.mean(expected)) and deviation == pytest.approx(np.std(expected))
    with pytest.raises(VipError, match="cannot be split"):
        inception_score_of_parts([logits[:9]], 9)
