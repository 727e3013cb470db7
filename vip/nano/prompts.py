"""Text side of the nano base: a CLIP tokenizer on the world's words, and how prompts are varied in training."""

import json
from typing import Any

import numpy as np
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from vip.nano.truth import Truth
from vip.nano.vocabulary import WORDS

START, END = "<|startoftext|>", "<|endoftext|>"
MAX_TOKENS = 77
NOTHING = "Center:; Surrounding:"
"""The paper's unconditional prompt; the empty prompt is trained beside it."""


def build_tokenizer() -> CLIPTokenizer:
    """A CLIPTokenizer (byte-level BPE, lower case, 77 tokens) in which every word of the world is one token."""
    trainer = trainers.BpeTrainer(
        vocab_size=2048,
        min_frequency=1,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learner.normalizer = normalizers.Lowercase()
    learner.pre_tokenizer = pre_tokenizers.Whitespace()
    learner.train_from_iterator([" ".join(WORDS), ": ; , ."], trainer)
    # Pairs, not strings: with strings the tokenizer comes out broken.
    merges: Any = _merges(learner)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [*letters, *(letter + "</w>" for letter in letters), *("".join(pair) for pair in merges), START, END]
    vocab = {word: i for i, word in enumerate(dict.fromkeys(words))}
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=MAX_TOKENS)


def _merges(learner: Tokenizer) -> list[tuple[str, str]]:
    pairs = json.loads(learner.to_str())["model"]["merges"]
    return [tuple(pair) if isinstance(pair, list) else tuple(pair.split(" ")) for pair in pairs]


def vary(facts: Truth, rng: np.random.Generator) -> str:
    """The prompt of one training step: mostly the whole caption, at times nothing, one half, or fewer keywords."""
    u = rng.random()
    if u < 0.07:
        return ""
    if u < 0.10:
        return NOTHING
    if u < 0.14:
        return "Surrounding: " + ", ".join(facts.surrounding)
    if u < 0.17:
        return ", ".join(facts.surrounding)
    if u < 0.20:
        return "Center: " + ", ".join(facts.centre)
    if u < 0.30:
        keep = tuple(phrase for phrase in facts.surrounding if rng.random() < 0.6)
        return Truth(facts.centre, keep).text
    return facts.text
