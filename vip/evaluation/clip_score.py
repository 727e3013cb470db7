"""CLIPScore: how well a picture fits its text, as a whole and part by part."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from schemas.canonical import fingerprint
from schemas.errors import VipError
from storage.models import model_digest
from vip.evaluation.scorer import Shown

# Of CLIP's own preprocessor; a checkpoint that says otherwise in preprocessor_config.json is heard.
_MEAN, _DEVIATION = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


class ClipScore:
    """CLIPScore (Hessel et al., 2021) without its factor 2.5: 100 times the cosine, at least 0.

    Three figures a picture, all of the pasted one: ``clip_score`` with both texts joined by a comma,
    ``clip_score_centre`` of the kept part with the centre text, ``clip_score_surrounding`` of the generated part with
    the surrounding text. A part is cut out with its bounding box, and what lies in the box but not in the part is
    painted in CLIP's mean colour. A text that is empty is not judged. What is not square is laid on a square of the
    mean colour, so that nothing is squashed or cut off. A text beyond the model's length loses its end.

    Args:
        folder: a CLIP model with its tokenizer, as ``transformers`` saves it, weights as safetensors.

    Raises:
        VipError: where it holds none, or not all of it.
    """

    units: Mapping[str, str] = {
        "clip_score": "100 x cosine",
        "clip_score_centre": "100 x cosine",
        "clip_score_surrounding": "100 x cosine",
    }

    def __init__(self, folder: Path) -> None:
        from transformers import CLIPModel, CLIPTokenizer

        from vip.diffusion.load import quiet

        try:
            with quiet():
                model, loaded = CLIPModel.from_pretrained(
                    folder, dtype=torch.float32, use_safetensors=True, output_loading_info=True
                )
                self._tokenizer = CLIPTokenizer.from_pretrained(folder)
        except (OSError, ValueError, TypeError, AttributeError) as error:
            first = (str(error).strip().splitlines() or ["unreadable"])[0]
            raise VipError(
                f"{folder} is no CLIP model: {first}", "give the folder of one, with its tokenizer"
            ) from error
        # What a file lacks transformers makes up at random, so that one digest would give other figures each time.
        if absent := sorted(loaded["missing_keys"]):
            more = f" and {len(absent) - 1} more" if len(absent) > 1 else ""
            raise VipError(f"{folder} lacks weights of CLIP: {absent[0]}{more}", "give the folder of a whole model")
        self._model = model.eval()
        said = _preprocessor(folder)
        self._mean = torch.tensor(said.get("image_mean", _MEAN)).view(1, 3, 1, 1)
        self._deviation = torch.tensor(said.get("image_std", _DEVIATION)).view(1, 3, 1, 1)
        self._size = self._model.config.vision_config.image_size
        self._length = self._model.config.text_config.max_position_embeddings
        self.name = folder.name
        self.digest = fingerprint({"model": model_digest(folder), "resize": "bicubic-antialias", "parts": "box, mean"})

    @torch.inference_mode()
    def __call__(self, shown: Shown) -> dict[str, list[float | None]]:
        """The three figures of every picture."""
        wholes = [", ".join(part for part in pair if part) for pair in shown.texts]
        nothing = np.zeros_like(shown.masks)
        return {
            "clip_score": self._judge(shown.pasted, nothing, wholes),
            "clip_score_centre": self._judge(shown.pasted, shown.masks, [center for center, _ in shown.texts]),
            "clip_score_surrounding": self._judge(shown.pasted, 1 - shown.masks, [around for _, around in shown.texts]),
        }

    def _judge(self, pictures: np.ndarray, hidden: np.ndarray, texts: Sequence[str]) -> list[float | None]:
        told = [place for place, text in enumerate(texts) if text]
        found: list[float | None] = [None] * len(texts)
        if not told:
            return found
        parts = torch.cat([self._part(pictures[place], hidden[place]) for place in told])
        images = self._model.visual_projection(self._model.vision_model(parts).pooler_output)
        tokens = self._tokenizer(
            [texts[place] for place in told],
            padding=True,
            truncation=True,
            max_length=self._length,
            return_tensors="pt",
        )
        read = self._model.text_model(tokens.input_ids, attention_mask=tokens.attention_mask).pooler_output
        cosines = F.cosine_similarity(images, self._model.text_projection(read))
        for place, cosine in zip(told, cosines.tolist(), strict=True):
            found[place] = max(0.0, 100 * cosine)
        return found

    def _part(self, picture: np.ndarray, hidden: np.ndarray) -> torch.Tensor:
        """Normalised (1, 3, size, size); the mean colour is 0 there."""
        rows, columns = np.nonzero(hidden == 0)
        box = (slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1))
        values = torch.from_numpy(picture[box].astype(np.float32) / 255).permute(2, 0, 1)[None]
        values = torch.where(torch.from_numpy(hidden[box] == 0), (values - self._mean) / self._deviation, 0.0)
        height, width = values.shape[-2:]
        scale = self._size / max(height, width)
        size = (max(1, round(height * scale)), max(1, round(width * scale)))
        if size != (height, width):
            values = F.interpolate(values, size, mode="bicubic", antialias=True)
        top, left = (self._size - size[0]) // 2, (self._size - size[1]) // 2
        return F.pad(values, (left, self._size - size[1] - left, top, self._size - size[0] - top))


def _preprocessor(folder: Path) -> dict[str, Any]:
    path = folder / "preprocessor_config.json"
    try:
        said = json.loads(path.read_text("utf-8"))
    except OSError:
        return {}
    except (ValueError, RecursionError) as error:
        raise VipError(f"{path} is no JSON: {error}", "put the model's own file back, or none") from error
    if not isinstance(said, dict):
        raise VipError(f"{path} holds no settings of a preprocessor", "put the model's own file back, or none")
    for name in ("image_mean", "image_std"):
        if name in said and not _three_numbers(said[name]):
            raise VipError(f"{path}: {name} is not three numbers", "put the model's own file back, or none")
    return said


def _three_numbers(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(isinstance(one, int | float) for one in value)
