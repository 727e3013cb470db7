"""The loss against diffusers' own signal-to-noise ratio and against the definition of velocity."""

import pytest
import torch
from diffusers import DDPMScheduler
from diffusers.training_utils import compute_snr

from vip.diffusion.loss import diffusion_loss, noise_weights, target_of

SCHEDULE = DDPMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
TIMES = torch.tensor([0, 10, 300, 999])


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_min_snr_weights_are_those_of_the_paper(prediction):
    ratio = compute_snr(SCHEDULE, TIMES)
    weights = noise_weights(SCHEDULE.alphas_cumprod, TIMES, 5.0, prediction)
    expected = torch.minimum(ratio, torch.tensor(5.0)) / (ratio + 1 if prediction == "v_prediction" else ratio)
    torch.testing.assert_close(weights, expected, rtol=1e-4, atol=1e-6)
    assert weights[0] < 0.1  # nearly clean pictures weigh little
    assert noise_weights(SCHEDULE.alphas_cumprod, TIMES, None, prediction).tolist() == [1.0] * 4


def test_the_target_is_the_noise_or_the_velocity():
    latents, noise = torch.randn(2, 4, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    assert target_of(SCHEDULE, latents, noise, TIMES, "epsilon") is noise
    kept = SCHEDULE.alphas_cumprod[TIMES].view(-1, 1, 1, 1)
    velocity = kept.sqrt() * noise - (1 - kept).sqrt() * latents
    torch.testing.assert_close(target_of(SCHEDULE, latents, noise, TIMES, "v_prediction"), velocity)


def test_weights_of_samples_and_of_the_kept_part():
    predicted, target = torch.zeros(2, 4, 2, 2), torch.ones(2, 4, 2, 2)
    mask = torch.tensor([[0.0, 0.0], [1.0, 1.0]]).expand(2, 1, 2, 2)
    assert diffusion_loss(predicted, target, torch.tensor([1.0, 0.5]), mask, 1.0).item() == pytest.approx(0.75)
    target[:, :, 0] = 3.0  # the kept rows, which are left out
    assert diffusion_loss(predicted, target, torch.ones(2), mask, 0.0).item() == pytest.approx(1.0)
    assert diffusion_loss(predicted, target, torch.ones(2), mask, 1.0).item() == pytest.approx(5.0)
