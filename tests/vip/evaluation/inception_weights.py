"""Weights for Inception v3 that any implementation can be given, made by a rule instead of training."""

import torch
from safetensors.torch import save_file

from vip.evaluation.inception import Inception


def made_weights(path, metadata=None):
    """Cosines of the place in each tensor, scaled so that values neither grow nor vanish with depth."""
    state = {}
    for number, (name, value) in enumerate(sorted(Inception().state_dict().items())):
        if name.endswith("num_batches_tracked"):
            continue
        wave = torch.cos(torch.arange(value.numel(), dtype=torch.float64) * (0.7 + 0.01 * number)).reshape(value.shape)
        if name.endswith(("running_var", "bn.weight")):
            state[name] = (1 + 0.2 * wave).float()
        elif value.ndim > 1:
            state[name] = (wave * (4 / value[0].numel()) ** 0.5).float()
        else:
            state[name] = (0.1 * wave).float()
    save_file(state, path, metadata)


def picture():
    """One uint8 picture of 40 x 56 with every kind of edge."""
    rows, columns = torch.meshgrid(torch.arange(40.0), torch.arange(56.0), indexing="ij")
    planes = [torch.sin(rows * (1 + place) / 5) * torch.cos(columns / (2 + place)) for place in range(3)]
    return ((torch.stack(planes, -1) + 1) * 127.5).round().byte()[None].numpy()
