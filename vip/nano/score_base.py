"""Score the nano base's parts on scenes whose truth is known: autoencoder, probe, obedience to text."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vip.nano.answers import ATTRIBUTES, labels_of
from vip.nano.autoencoder import psnr, to_tensor
from vip.nano.probe import Probe, read
from vip.nano.regions import DEFAULT, mask_of
from vip.nano.scene import make_scene
from vip.nano.truth import truth
from vip.nano.world import draw

CENTRE = ("kind", "colour")
SURROUNDING = tuple(name for name in ATTRIBUTES if name not in CENTRE)
STEPS = 30
GUIDANCE = 3.0
_BATCH = 16


def to_pictures(pixels: torch.Tensor) -> np.ndarray:
    """float32 [N, 3, H, W] in -1..1 -> uint8 [N, H, W, 3]."""
    return ((pixels.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()


def pictures_of(seeds: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Pictures uint8 [N, 64, 64, 3] and labels int64 [N, attributes] of drawn scenes."""
    scenes = [make_scene(seed) for seed in seeds]
    return np.stack([draw(scene) for scene in scenes]), np.array([labels_of(scene) for scene in scenes])


def load_base(folder: Path) -> Any:
    """The inpainting pipeline in ``folder``, quiet, for the CPU."""
    from diffusers import StableDiffusionInpaintPipeline

    pipeline: Any = StableDiffusionInpaintPipeline.from_pretrained(folder, dtype=torch.float32, safety_checker=None)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def rebuild(vae: Any, pictures: np.ndarray) -> np.ndarray:
    """What is left of uint8 [N, 64, 64, 3] pictures after the autoencoder."""
    out = []
    with torch.inference_mode():
        for i in range(0, len(pictures), 32):
            posterior = vae.encode(to_tensor(pictures[i : i + 32])).latent_dist
            out.append(to_pictures(vae.decode(posterior.mode()).sample))
    return np.concatenate(out)


def score_autoencoder(vae: Any, pictures: np.ndarray) -> dict[str, float]:
    """PSNR in dB of 8-bit reconstructions, mean over pictures, and the share of pictures at 26 dB or more."""
    values = psnr(to_tensor(pictures), to_tensor(rebuild(vae, pictures)))
    return {
        "pictures": len(pictures),
        "psnr_mean": float(values.mean()),
        "psnr_p05": float(values.quantile(0.05)),
        "share_at_26_db": float((values >= 26).float().mean()),
    }


def attribute_accuracy(found: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Share of labels read rightly (``none`` counts as a label): per attribute, and the mean per region."""
    right = (found == labels).mean(axis=0)
    each = {name: float(value) for name, value in zip(ATTRIBUTES, right, strict=True)}
    return {
        "mean": float(right.mean()),
        "centre": float(np.mean([each[name] for name in CENTRE])),
        "surrounding": float(np.mean([each[name] for name in SURROUNDING])),
        "by_attribute": each,
    }


def score_probe(probe: Probe, pictures: np.ndarray, rebuilt: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Accuracy on drawn scenes and on their reconstructions, and the commonest confusions."""
    found = read(probe, pictures)
    return {
        "drawn": attribute_accuracy(found, labels),
        "rebuilt": attribute_accuracy(read(probe, rebuilt), labels),
        "confusions": _confusions(found, labels),
    }


def _confusions(found: np.ndarray, labels: np.ndarray, most: int = 12) -> list[list[Any]]:
    counts: dict[tuple[str, str, str], int] = {}
    for column, (name, words) in enumerate(ATTRIBUTES.items()):
        options = ("none", *words)
        for true, said in zip(labels[:, column], found[:, column], strict=True):
            if true != said:
                key = (name, options[true], options[said])
                counts[key] = counts.get(key, 0) + 1
    return [[*key, count] for key, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:most]]


def obedience(found: np.ndarray, labels: np.ndarray) -> float:
    """Share of the surrounding's words (attributes that are there) that the probe reads in the picture."""
    columns = [i for i, name in enumerate(ATTRIBUTES) if name in SURROUNDING]
    told = labels[:, columns] > 0
    return float((found[:, columns] == labels[:, columns])[told].mean())


def inpaint(
    pipeline: Any, pictures: np.ndarray, prompts: Sequence[str], *, steps: int = STEPS, guidance: float = GUIDANCE
) -> np.ndarray:
    """Surroundings painted by the plain pipeline, the kept centre pasted back; uint8 [N, 64, 64, 3]."""
    mask = mask_of(DEFAULT)
    holes = torch.from_numpy(mask.astype(np.float32))[None, None]
    out = []
    for i in range(0, len(pictures), _BATCH):
        batch, texts = pictures[i : i + _BATCH], list(prompts[i : i + _BATCH])
        generators = [torch.Generator().manual_seed(i + n) for n in range(len(batch))]
        painted = pipeline(
            prompt=texts,
            image=to_tensor(batch) / 2 + 0.5,
            mask_image=holes.expand(len(batch), -1, -1, -1),
            height=64,
            width=64,
            num_inference_steps=steps,
            guidance_scale=guidance,
            generator=generators,
            output_type="pt",
        ).images
        out.append(to_pictures(painted * 2 - 1))
    return np.where(mask[None, ..., None] == 1, np.concatenate(out), pictures)


def score_obedience(pipeline: Any, probe: Probe, seeds: Sequence[int], guidance: float = GUIDANCE) -> dict[str, Any]:
    """How far the generated surrounding follows the total prompt, the central half kept.

    ``ceiling`` is the probe on the drawn scenes themselves; ``chance_shuffled`` scores the same pictures against the
    next scene's words; ``chance_no_text`` paints with the empty prompt.
    """
    pictures, labels = pictures_of(seeds)
    prompts = [truth(make_scene(seed), mask_of(DEFAULT)).text for seed in seeds]
    told = read(probe, inpaint(pipeline, pictures, prompts, guidance=guidance))
    untold = read(probe, inpaint(pipeline, pictures, [""] * len(prompts), guidance=1.0))
    ceiling = obedience(read(probe, pictures), labels)
    reached = obedience(told, labels)
    columns = {name: i for i, name in enumerate(ATTRIBUTES)}
    by_attribute = {}
    for name in SURROUNDING:
        there = labels[:, columns[name]] > 0
        hits = told[there, columns[name]] == labels[there, columns[name]]
        chance = untold[there, columns[name]] == labels[there, columns[name]]
        by_attribute[name] = {"obeyed": float(hits.mean()), "no_text": float(chance.mean())}
    return {
        "pictures": len(pictures),
        "steps": STEPS,
        "guidance": guidance,
        "obedience": reached,
        "ceiling": ceiling,
        "share_of_ceiling": reached / ceiling,
        "chance_shuffled": obedience(told, np.roll(labels, -1, axis=0)),
        "chance_no_text": obedience(untold, labels),
        "by_attribute": by_attribute,
    }
