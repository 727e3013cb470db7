"""The loss of one batch."""

import torch
from diffusers import SchedulerMixin


def noise_weights(
    alphas_cumprod: torch.Tensor, timesteps: torch.Tensor, gamma: float | None, prediction: str
) -> torch.Tensor:
    """Min-SNR weights (Hang et al. 2023) of each sample: (B,), all 1 where ``gamma`` is None.

    Args:
        alphas_cumprod: (T,) of the noise schedule.
        timesteps: (B,) int64.
        gamma: upper bound of the signal-to-noise ratio; 5 is usual.
        prediction: ``epsilon`` or ``v_prediction``.
    """
    if gamma is None:
        return torch.ones_like(timesteps, dtype=torch.float32)
    alphas = alphas_cumprod.to(timesteps.device)[timesteps].float()
    ratio = alphas / (1 - alphas)
    clipped = ratio.clamp(max=gamma)
    return clipped / (ratio + 1) if prediction == "v_prediction" else clipped / ratio.clamp(min=1e-8)


def target_of(
    scheduler: SchedulerMixin, latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor, prediction: str
) -> torch.Tensor:
    """What the UNet has to predict, (B, 4, h, w)."""
    return scheduler.get_velocity(latents, noise, timesteps) if prediction == "v_prediction" else noise


def diffusion_loss(
    predicted: torch.Tensor, target: torch.Tensor, weights: torch.Tensor, mask: torch.Tensor, kept_weight: float
) -> torch.Tensor:
    """Mean squared error over the batch.

    Args:
        predicted, target: (B, 4, h, w).
        weights: (B,) weight of each sample.
        mask: (B, 1, h, w), 1 = generate.
        kept_weight: weight of kept latents against 1 for generated ones; each sample's weights are brought to mean 1.

    Returns:
        () float32.
    """
    error = (predicted.float() - target.float()) ** 2
    if kept_weight != 1.0:
        share = mask.float() + kept_weight * (1 - mask.float())
        error = error * (share / share.mean(dim=(1, 2, 3), keepdim=True).clamp(min=1e-8))
    return (error.mean(dim=(1, 2, 3)) * weights).mean()
