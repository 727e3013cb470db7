"""Text side of the nano base: a CLIP tokenizer on the world's words, and how prompts are varied in training."""

import itertools
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from tokenizers import pre_tokenizers
from transformers import CLIPTokenizer

from vip.nano.truth import Truth
from vip.nano.vocabulary import WORDS

START, END = "<|startoftext|>", "<|endoftext|>"
MAX_TOKENS = 77
NOTHING = "Center:; Surrounding:"
"""The paper's unconditional prompt; the empty prompt is trained beside it."""


def build_tokenizer() -> CLIPTokenizer:
    """A CLIPTokenizer (byte-level BPE, lower case, 77 tokens) in which every word of the world is one token."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    # Pairs, not strings: with strings the tokenizer comes out broken.
    merges: Any = learn_merges([word.lower() for word in WORDS])
    words = [*letters, *(letter + "</w>" for letter in letters), *("".join(pair) for pair in merges), START, END]
    vocab = {word: i for i, word in enumerate(dict.fromkeys(words))}
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=MAX_TOKENS)


def learn_merges(words: Sequence[str]) -> list[tuple[str, str]]:
    """Byte pair encoding until each of ``words`` is one token: the commonest pair first, ties in order of spelling.

    The trainers of the tokenizers library break ties by chance, so that the same word had another number every time.
    """
    spelled = [(*word[:-1], word[-1] + "</w>") for word in dict.fromkeys(words)]
    merges: list[tuple[str, str]] = []
    while counts := Counter(pair for symbols in spelled for pair in itertools.pairwise(symbols)):
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        merges.append(best)
        spelled = [_merge(symbols, best) for symbols in spelled]
    return merges


def _merge(symbols: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    out: list[str] = []
    for symbol in symbols:
        if out and (out[-1], symbol) == pair:
            out[-1] += symbol
        else:
            out.append(symbol)
    return tuple(out)


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
