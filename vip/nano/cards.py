"""Model cards: what each nano checkpoint is, is for, and is not, written beside its weights."""

import json
from pathlib import Path

from vip.nano.loop import Recipe

_COMMON = """
Trained from nothing on drawn scenes (`vip/nano/world.py`, seeds from 10,000,000 on; every seed below is held out).
Part of the embedded default: it lets the whole pipeline run on real components without a GPU or a download, and in a
world whose truth is known captions and obedience to text can be scored exactly. It knows nothing but that world: on a
photograph its answers mean nothing. Weights lie as float16 and are computed with as float32. Licence: Apache-2.0.
Figures on held-out seeds, ceilings and chance: `docs/nano.md`; `vip nano score --seeds START:STOP` takes them again.
"""

CARDS = {
    "captioner": (
        "Nano captioner",
        """\
BLIP-2 (vision tower 4 x 128 on 8 px patches of 64 px, Q-Former 2 x 128 with 16 queries, OPT 3 x 128, byte-level BPE).
vLLM serves it as `Blip2ForConditionalGeneration`. It answers the instructions of `vip/nano/instructions.py` word for
word and no others: describe both parts (joint), one part (split), or imagine the surrounding, with keywords if given.
The kept box is told in sixteenths of the view; irregular masks were not trained.""",
    ),
    "base": (
        "Nano inpainting base",
        """\
A plain Stable Diffusion inpainting model: AutoencoderKL (4x down, 4 channels), CLIP text encoder (2 x 128, 77
tokens), 9-channel UNet on 16 x 16 latents, noise prediction on Stable Diffusion 1.x's schedule.
`StableDiffusionInpaintPipeline.from_pretrained` loads it. Trained on total prompts
(`Center: red house; Surrounding: meadow, noon, rain, blue flowers left`) with a mixture of masks; a tenth of
the prompts were empty. The text encoder learned beforehand to say back what a prompt names, and was then kept. It
has no idea of two regions: that is what C-T-S adds.""",
    ),
    "probe": (
        "Nano probe",
        """\
A small convolutional network that reads the attributes of a scene from its pixels: the measuring instrument
of obedience. It saw drawn scenes, blurred and noisy ones and reconstructions of the autoencoder, never a generated
picture. `vip.nano.probe.load` loads it.""",
    ),
}


def write_card(part: str, folder: Path, recipe: Recipe) -> None:
    """Write ``README.md`` of ``part`` into ``folder``, with its recipe and the end of its curve."""
    title, text = CARDS[part]
    last = json.loads((folder / "curve.jsonl").read_text().splitlines()[-1])
    figures = ", ".join(f"{name} {value:.4g}" for name, value in last.items() if name != "step")
    made = (
        f"Steps: {last['step']:.0f}. Learning rate: {recipe.learning_rate:g}. Moving average: {recipe.ema:g}. "
        f"Seed: {recipe.seed}.\nAt the end of the training curve (`curve.jsonl`): {figures}.\n"
    )
    (folder / "README.md").write_text(f"# {title}\n\n{text}\n{_COMMON}\n{made}")
