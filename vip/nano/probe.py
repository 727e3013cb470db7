"""The probe: reads a scene's attributes back from pixels. Trained on drawn scenes and their degradations only."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional

from vip.nano.answers import ATTRIBUTES, labels_of
from vip.nano.autoencoder import to_tensor
from vip.nano.loop import Recipe, Training, seed_step
from vip.nano.scene import TRAINING_SEEDS, make_scene
from vip.nano.world import draw

BATCH = 64
FIRST_SEED = 1000 * TRAINING_SEEDS
WIDTHS = (32, 48, 64, 96)

Rebuild = Callable[[torch.Tensor], torch.Tensor]
"""Pixels in -1..1 -> the autoencoder's reconstruction of them."""


class Probe(nn.Module):
    """A small convolutional network; one linear head per attribute on its 8 x 8 map."""

    def __init__(self) -> None:
        super().__init__()
        a, b, c, d = WIDTHS
        self.body = nn.Sequential(
            nn.Conv2d(3, a, 5, 2, 2),
            nn.ReLU(),
            nn.Conv2d(a, b, 3, 1, 1),
            nn.GroupNorm(8, b),
            nn.ReLU(),
            nn.Conv2d(b, c, 3, 2, 1),
            nn.GroupNorm(8, c),
            nn.ReLU(),
            nn.Conv2d(c, c, 3, 1, 1),
            nn.GroupNorm(8, c),
            nn.ReLU(),
            nn.Conv2d(c, d, 3, 2, 1),
            nn.GroupNorm(8, d),
            nn.ReLU(),
            nn.Conv2d(d, 48, 3, 1, 1),
            nn.ReLU(),
        )
        self.sizes = [len(words) + 1 for words in ATTRIBUTES.values()]
        self.head = nn.Linear(48 * 64, sum(self.sizes))

    def forward(self, pixels: torch.Tensor) -> list[torch.Tensor]:
        """Logits per attribute (label 0 = none) from float32 [N, 3, 64, 64] in -1..1."""
        return list(self.head(self.body(pixels).flatten(1)).split(self.sizes, dim=1))


def read(probe: Probe, pictures: np.ndarray) -> np.ndarray:
    """Labels of uint8 [N, 64, 64, 3] pictures: int64 [N, attributes], as ``labels_of`` gives them."""
    found = []
    with torch.inference_mode():
        for i in range(0, len(pictures), 128):
            logits = probe(to_tensor(pictures[i : i + 128]))
            found.append(torch.stack([each.argmax(1) for each in logits], 1).numpy())
    return np.concatenate(found)


def degrade(pixels: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """A quarter each: untouched, blurred, noisy, both; float32 [N, 3, 64, 64] in -1..1."""
    out = pixels.clone()
    for i in range(len(out)):
        u = rng.random()
        if u > 0.5:
            out[i] = _blur(out[i], float(rng.uniform(0.3, 1.0)))
        if 0.25 < u < 0.75:
            out[i] += torch.randn_like(out[i]) * float(rng.uniform(0.01, 0.12))
    return out.clamp(-1, 1)


def _blur(picture: torch.Tensor, sigma: float) -> torch.Tensor:
    taps = torch.exp(-0.5 * (torch.arange(-2, 3) / sigma).square())
    taps = taps / taps.sum()
    padded = functional.pad(picture[:, None], (2, 2, 2, 2), mode="replicate")
    return functional.conv2d(functional.conv2d(padded, taps.view(1, 1, 1, 5)), taps.view(1, 1, 5, 1))[:, 0]


def train(
    folder: Path, rebuild: Rebuild, recipe: Recipe, rebuilt_scenes: int = 4096, until: int | None = None
) -> Training:
    """Train (or go on training) in ``folder``; a quarter of each batch are reconstructions by ``rebuild``."""
    seed_step(recipe.seed, -4)
    probe = Probe()
    training = Training(probe, recipe, folder)
    pool = _rebuilt(rebuild, folder / "rebuilt.safetensors", rebuilt_scenes)

    def loss(step: int) -> tuple[torch.Tensor, dict[str, float]]:
        rng = np.random.Generator(np.random.PCG64([recipe.seed, step, 17]))
        start = FIRST_SEED + TRAINING_SEEDS + step * BATCH
        scenes = [make_scene(seed) for seed in range(start, start + BATCH * 3 // 4)]
        fresh = degrade(to_tensor(np.stack([draw(scene) for scene in scenes])), rng)
        picks = torch.from_numpy(rng.integers(rebuilt_scenes, size=BATCH // 4))
        pixels = torch.cat([fresh, pool["pictures"][picks].float() / 127.5 - 1])
        labels = torch.cat([torch.tensor([labels_of(scene) for scene in scenes]), pool["labels"][picks]])
        logits = probe(pixels)
        value = torch.stack([functional.cross_entropy(each, labels[:, i]) for i, each in enumerate(logits)]).mean()
        right = torch.stack([(each.argmax(1) == labels[:, i]).float() for i, each in enumerate(logits)])
        split = BATCH * 3 // 4
        return value, {"drawn": float(right[:, :split].mean()), "rebuilt": float(right[:, split:].mean())}

    training.run(loss, until=until)
    return training


def _rebuilt(rebuild: Rebuild, path: Path, scenes: int) -> dict[str, torch.Tensor]:
    if path.exists():
        return load_file(path)
    labels, pictures = [], []
    for start in range(FIRST_SEED, FIRST_SEED + scenes, 32):
        batch = [make_scene(seed) for seed in range(start, min(start + 32, FIRST_SEED + scenes))]
        labels += [labels_of(scene) for scene in batch]
        with torch.inference_mode():
            y = rebuild(to_tensor(np.stack([draw(scene) for scene in batch])))
        pictures.append(((y.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8))
    tensors = {"pictures": torch.cat(pictures).contiguous(), "labels": torch.tensor(labels)}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path)
    return tensors


def save(probe: Probe, folder: Path) -> None:
    """Write ``model.safetensors`` (float16) and ``config.json``."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.detach().half().contiguous() for name, tensor in probe.state_dict().items()}
    save_file(tensors, folder / "model.safetensors")
    config = {"widths": WIDTHS, "attributes": {name: list(words) for name, words in ATTRIBUTES.items()}}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def load(folder: Path) -> Probe:
    """The probe that ``save`` wrote, ready to read."""
    probe = Probe()
    probe.load_state_dict({name: tensor.float() for name, tensor in load_file(folder / "model.safetensors").items()})
    return probe.eval()
