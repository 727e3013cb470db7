"""Caption dropout: which texts a sample is trained with."""

import numpy as np

from schemas.train_config import TrainConfig
from vip.diffusion.census import Caption
from vip.diffusion.prompt import Prompt, PromptStyle, make_prompt


def draw_prompt(caption: Caption, without_text: bool, rng: np.random.Generator, config: TrainConfig) -> Prompt:
    """The texts of a sample after caption dropout.

    Draws the same number of values whatever comes out, so that one setting does not shift the draws of another.
    """
    whole, half, side = rng.random(3)
    if without_text or whole < config.dropout:
        return make_prompt("", "", style=config.prompt_style)
    if half < config.half_dropout:
        return _halves(caption, config.prompt_style)[0 if side < 0.5 else 1]
    return make_prompt(caption.centre, caption.surrounding, caption.total, config.prompt_style)


def every_prompt(caption: Caption, config: TrainConfig) -> list[Prompt]:
    """All that :func:`draw_prompt` can give for a caption."""
    style = config.prompt_style
    halves = _halves(caption, style) if config.half_dropout else ()
    return [
        make_prompt("", "", style=style),
        make_prompt(caption.centre, caption.surrounding, caption.total, style),
        *halves,
    ]


def _halves(caption: Caption, style: PromptStyle) -> tuple[Prompt, Prompt]:
    """The surrounding text without the centre's, and the other way round."""
    return make_prompt("", caption.surrounding, style=style), make_prompt(caption.centre, "", style=style)
