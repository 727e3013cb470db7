"""Token counts by the target model's own tokenizer, special tokens included, and what its limit would cut."""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schemas.errors import VipError

CLIP_LIMIT = 77
_REMEDY = "give a folder with tokenizer.json, or vocab.json and merges.txt"


@dataclass(frozen=True)
class TokenCounter:
    """Counts tokens as the target's text encoder will see them.

    Args:
        tokenizer: a ``tokenizers.Tokenizer`` that adds the special tokens itself.
        limit: tokens the encoder takes, special tokens included.
    """

    tokenizer: Any
    limit: int = CLIP_LIMIT

    def count(self, text: str) -> int:
        """Number of tokens of ``text``, begin and end included."""
        return len(self.tokenizer.encode(text).ids)

    def count_and_cut(self, text: str) -> tuple[int, str]:
        """Number of tokens, and the end of ``text`` that the encoder would never see; empty where all fits."""
        encoding = self.tokenizer.encode(text)
        count = len(encoding.ids)
        if count <= self.limit:
            return count, ""
        # The last place within the limit belongs to the end token.
        return count, text[encoding.offsets[self.limit - 1][0] :]


@functools.lru_cache(maxsize=4)
def load_counter(folder: Path, digest: str) -> TokenCounter:
    """The tokenizer in ``folder``: ``tokenizer.json``, or CLIP's ``vocab.json`` and ``merges.txt``.

    Args:
        digest: of its files as they are now; it is loaded again where they have changed.

    Raises:
        VipError: where there is neither, or what is there cannot be read.
    """
    try:
        tokenizer = _load(folder)
        limit = _limit(folder)
    except VipError:
        raise
    except Exception as error:  # tokenizers raises nothing narrower
        why = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
        raise VipError(f"the tokenizer in {folder} cannot be read: {why}", _REMEDY) from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return TokenCounter(tokenizer, limit)


def _load(folder: Path) -> Any:
    from tokenizers import Tokenizer

    if (folder / "tokenizer.json").exists():
        return Tokenizer.from_file(str(folder / "tokenizer.json"))
    if (folder / "vocab.json").exists() and (folder / "merges.txt").exists():
        from transformers import CLIPTokenizer

        return CLIPTokenizer.from_pretrained(str(folder)).backend_tokenizer
    raise VipError(f"{folder} holds no tokenizer", _REMEDY)


def _limit(folder: Path) -> int:
    import json

    path = folder / "tokenizer_config.json"
    value = json.loads(path.read_text()).get("model_max_length") if path.exists() else None
    return int(value) if isinstance(value, int) and 3 <= value <= 100_000 else CLIP_LIMIT
