"""The nano text encoder: CLIP's, taught to say back what a prompt names, so that the UNet starts from words it can use.

Stable Diffusion's text encoder comes out of CLIP already knowing what words mean and which belong together; one that
starts from nothing beside the UNet needs tens of thousands of pictures to find out that in ``blue flowers left`` the
three words are one thing. Here it learns that from prompts alone, in minutes, and is kept as it is afterwards.
"""

import re
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from vip.nano.answers import ATTRIBUTES
from vip.nano.loop import Recipe, Training, seed_step
from vip.nano.prompts import END, MAX_TOKENS, START, build_tokenizer, vary
from vip.nano.regions import draw_region, mask_of
from vip.nano.scene import TRAINING_SEEDS, make_scene
from vip.nano.truth import Truth, truth
from vip.nano.words import roles

BATCH = 64
WIDTH = 128
FIRST_SEED = 10_000 * TRAINING_SEEDS


class Namer(nn.Module):
    """The text encoder and one linear head per attribute on the states that follow the prompt's last word."""

    def __init__(self, text_encoder: CLIPTextModel) -> None:
        super().__init__()
        self.text_encoder = text_encoder
        self.sizes = [len(words) + 1 for words in ATTRIBUTES.values()]
        self.head = nn.Linear(WIDTH, sum(self.sizes))

    def forward(self, tokens: torch.Tensor, spots: torch.Tensor) -> list[torch.Tensor]:
        """Logits per attribute from token ids int64 [N, 77], read at position ``spots`` int64 [N]."""
        states = self.text_encoder(tokens)[0]
        return list(self.head(states[torch.arange(len(tokens)), spots]).split(self.sizes, dim=1))


def build(tokenizer: CLIPTokenizer, seed: int = 0) -> CLIPTextModel:
    """A fresh text encoder, weights from ``seed``."""
    seed_step(seed, -5)
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=WIDTH,
            intermediate_size=512,
            projection_dim=WIDTH,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=MAX_TOKENS,
            bos_token_id=tokenizer.get_vocab()[START],
            eos_token_id=tokenizer.get_vocab()[END],
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def named(prompt: str) -> list[int]:
    """What ``prompt`` names, whichever half it stands in: one label per attribute of ``ATTRIBUTES``, 0 = not named."""
    phrases = [phrase.strip() for phrase in re.split(r"Center:|Surrounding:|[;,]", prompt)]
    found = {role.removeprefix("subject "): word for role, word in roles([p for p in phrases if p]).items()}
    return [words.index(found[name]) + 1 if found.get(name) in words else 0 for name, words in ATTRIBUTES.items()]


def train(folder: Path, recipe: Recipe, until: int | None = None) -> Training:
    """Train (or go on training) in ``folder``."""
    tokenizer = build_tokenizer()
    namer = Namer(build(tokenizer, recipe.seed))
    training = Training(namer, recipe, folder)
    last = tokenizer.get_vocab()[END]

    def loss(step: int) -> tuple[torch.Tensor, dict[str, float]]:
        rng = np.random.Generator(np.random.PCG64([recipe.seed, step, 19]))
        prompts = [_prompt(FIRST_SEED + step * BATCH + i, rng) for i in range(BATCH)]
        tokens = tokenizer(prompts, padding="max_length", truncation=True, return_tensors="pt")["input_ids"]
        ends = (tokens == last).int().argmax(1)
        # Attention that is still undecided looks at the padding most: every state after the last word must know.
        spots = torch.from_numpy(rng.integers(ends.numpy(), MAX_TOKENS))
        labels = torch.tensor([named(prompt) for prompt in prompts])
        logits = namer(tokens, spots)
        value = torch.stack([functional.cross_entropy(each, labels[:, i]) for i, each in enumerate(logits)]).mean()
        right = torch.stack([(each.argmax(1) == labels[:, i]).float() for i, each in enumerate(logits)])
        return value, {"named": float(right.mean())}

    training.run(loss, until=until)
    return training


def load(folder: Path) -> CLIPTextModel:
    """The text encoder trained in ``folder``."""
    namer = Namer(build(build_tokenizer()))
    Training(namer, Recipe(steps=1, learning_rate=0.0), folder).use_average()
    return namer.text_encoder.eval()


def _prompt(seed: int, rng: np.random.Generator) -> str:
    """Half as the base is trained on them, half any phrases of the scene in any order."""
    facts = truth(make_scene(seed), mask_of(draw_region(rng)))
    if rng.random() < 0.5:
        return vary(facts, rng)
    phrases = [*facts.centre, *facts.surrounding]
    chosen = tuple(phrases[i] for i in rng.permutation(len(phrases))[: int(rng.integers(1, len(phrases) + 1))])
    if rng.random() < 0.5:
        return ", ".join(chosen)
    cut = int(rng.integers(len(chosen) + 1))
    return Truth(chosen[:cut], chosen[cut:]).text
