"""Train the whole nano family from seeds: ``python -m vip.nano.train --scratch DIR``; resumable at any moment."""

import argparse
import logging
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from vip.nano.cards import write_card
from vip.nano.loop import Recipe, Training, prepare

log = logging.getLogger(__name__)

PARTS = ("autoencoder", "text_encoder", "probe", "captioner", "base")


Recipes = dict[str, Recipe]

RECIPES: Recipes = {
    "autoencoder": Recipe(steps=4_000, learning_rate=1.5e-3, ema=0.99, weight_decay=0.0),
    "text_encoder": Recipe(steps=1_200, learning_rate=1e-3, warmup=200, decay=0.4, ema=0.99),
    "probe": Recipe(steps=2_500, learning_rate=2e-3, decay=0.4, ema=0.99),
    "captioner": Recipe(steps=8_000, learning_rate=1e-3, warmup=200, decay=0.4, weight_decay=0.02),
    "base": Recipe(steps=6_500, learning_rate=1.2e-3, warmup=200, decay=0.25, ema=0.998),
}
"""The whole recipe: some five hours of one core."""


def shortened(share: float) -> Recipes:
    """The recipes with every part's steps cut to ``share`` of them."""
    return {name: replace(recipe, steps=max(1, int(recipe.steps * share))) for name, recipe in RECIPES.items()}


def train_family(
    scratch: Path,
    weights: Path,
    recipes: Recipes | None = None,
    *,
    threads: int = 1,
    parts: tuple[str, ...] = PARTS,
) -> None:
    """Train ``parts`` in their order and write their weights.

    Args:
        scratch: training states, cached latents and curves; goes on from here after an interruption.
        weights: folder that gets ``captioner``, ``base`` and ``probe``.
        recipes: steps and rates per part; None is the whole recipe.
        threads: of torch; the same number gives the same curve twice. On two cores two calls with other ``parts``
            side by side are faster than one call with two threads.
        parts: what to train. ``probe`` and ``base`` take the autoencoder that was trained in ``scratch``, or else the
            one in ``weights``; ``base`` needs the text encoder in ``scratch``.
    """
    recipes = recipes or RECIPES
    prepare(threads)
    if "autoencoder" in parts:
        from vip.nano import autoencoder

        autoencoder.train(scratch / "autoencoder", recipes["autoencoder"])
    if "text_encoder" in parts:
        from vip.nano import text_encoder

        text_encoder.train(scratch / "text_encoder", recipes["text_encoder"])
    if "probe" in parts:
        _train_probe(scratch, weights, recipes["probe"])
    if "captioner" in parts:
        _train_captioner(scratch, weights, recipes["captioner"])
    if "base" in parts:
        _train_base(scratch, weights, recipes["base"])


def _autoencoder(scratch: Path, weights: Path) -> Any:
    from diffusers import AutoencoderKL

    from vip.nano import autoencoder

    if (scratch / "autoencoder").exists():
        return autoencoder.load(scratch)
    # Into a fresh one: a loaded one remembers the folder it came from, and would write that into its config.
    served = AutoencoderKL.from_pretrained(weights / "base" / "vae", torch_dtype=torch.float32)
    vae = autoencoder.build()
    vae.load_state_dict(served.state_dict())
    vae.register_to_config(scaling_factor=served.config.scaling_factor)
    return vae.eval()


def _train_probe(scratch: Path, weights: Path, recipe: Recipe) -> None:
    from vip.nano import probe

    vae = _autoencoder(scratch, weights)
    trained = probe.train(scratch / "probe", lambda x: vae.decode(vae.encode(x).latent_dist.mode()).sample, recipe)
    probe.save(_result(trained), weights / "probe")
    _finish(trained, weights / "probe")


def _train_captioner(scratch: Path, weights: Path, recipe: Recipe) -> None:
    from vip.nano import captioner

    trained = captioner.train(scratch / "captioner", recipe)
    captioner.save(_result(trained).captioner, captioner.build_tokenizer(), weights / "captioner")
    _finish(trained, weights / "captioner")


def _train_base(scratch: Path, weights: Path, recipe: Recipe) -> None:
    from vip.nano import base, prompts, text_encoder

    vae = _autoencoder(scratch, weights)
    words = text_encoder.load(scratch / "text_encoder")
    trained = base.train(scratch / "base", vae, words, recipe)
    base.save(_result(trained), words, vae, prompts.build_tokenizer(), weights / "base")
    _finish(trained, weights / "base")
    for part in ("autoencoder", "text_encoder"):
        if (curve := scratch / part / "curve.jsonl").exists():
            shutil.copyfile(curve, weights / "base" / f"curve-{part.replace('_', '-')}.jsonl")


def _result(trained: Training) -> Any:
    trained.use_average()
    return trained.model.eval()


def _finish(trained: Training, folder: Path) -> None:
    """Put the curve and a model card beside the weights."""
    shutil.copyfile(trained.folder / "curve.jsonl", folder / "curve.jsonl")
    write_card(folder.name, folder, trained.recipe)
    log.info("%s written, recipe %s", folder, asdict(trained.recipe))


def main(arguments: list[str] | None = None) -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scratch", type=Path, required=True, help="training states; go on from here")
    parser.add_argument("--weights", type=Path, help="where the weights go [default: SCRATCH/weights]")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--share", type=float, default=1.0, help="of the whole recipe's steps")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    train_family(
        given.scratch,
        given.weights or given.scratch / "weights",
        shortened(given.share),
        threads=given.threads,
        parts=tuple(given.parts),
    )


if __name__ == "__main__":
    main()
