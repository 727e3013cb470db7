"""Texts through the tokenizer and the text encoder of the base model."""

import torch
from transformers import CLIPTextModel, CLIPTokenizer


def tokenize(tokenizer: CLIPTokenizer, texts: list[str]) -> torch.Tensor:
    """Token ids padded to the model's length: (texts, tokens) int64. What is longer is cut, see :func:`cut_text`."""
    length = tokenizer.model_max_length
    return tokenizer(texts, padding="max_length", max_length=length, truncation=True, return_tensors="pt").input_ids


def cut_text(tokenizer: CLIPTokenizer, text: str) -> str:
    """The end of ``text`` that does not fit into the model's length (77 tokens for CLIP); empty where it all fits."""
    ids = tokenizer(text, truncation=False, verbose=False).input_ids
    room = tokenizer.model_max_length - 1
    return "" if len(ids) <= room + 1 else tokenizer.decode(ids[room:-1]).strip()


@torch.no_grad()
def encode_texts(tokenizer: CLIPTokenizer, encoder: CLIPTextModel, texts: list[str]) -> torch.Tensor:
    """Encode texts as Stable Diffusion does (last hidden state): (texts, tokens, channels) in the encoder's dtype."""
    ids = tokenize(tokenizer, texts).to(encoder.device)
    mask = (ids != tokenizer.pad_token_id).long() if getattr(encoder.config, "use_attention_mask", False) else None
    return encoder(ids, attention_mask=mask).last_hidden_state
