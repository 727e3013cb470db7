"""Embeddings: what the frozen text encoder makes of the texts of a shard's captions, as an artifact."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from schemas.manifest import ArtifactRef, Manifest, Recipe
from schemas.tables import EMBEDDINGS
from schemas.train_config import TrainConfig
from schemas.training import ShardCaptions
from storage.store import ArtifactStore
from storage.tables import read_table, write_table
from storage.tensors import OnRow, read_row, write_rows
from vip.diffusion.census import load_shard
from vip.diffusion.dropout import every_prompt
from vip.diffusion.prompt import Prompt, make_prompt
from vip.machine import machine

if TYPE_CHECKING:
    from vip.diffusion.encode import Encoder

_TABLE = "embeddings.parquet"


def embeddings_recipe(
    shard: ArtifactRef, captions: ArtifactRef, tokenizer: ArtifactRef, text_encoder: ArtifactRef, config: TrainConfig
) -> Recipe:
    """What names the embedded texts of a shard's captions.

    Args:
        shard: says which images are of the training split.
        captions: of the shard.
        tokenizer, text_encoder: the model artifacts of these parts alone, so that bases share them.
        config: the run; what of it decides which texts a sample may be trained with is in the key.
    """
    return Recipe(
        kind="embeddings",
        stage="make_embeddings",
        inputs={"shard": shard, "captions": captions, "tokenizer": tokenizer, "text_encoder": text_encoder},
        params={
            "view": config.view.id,
            "regions": sorted(config.regions),
            "style": config.prompt_style,
            "halves": config.half_dropout > 0,
        },
    )


def make_embeddings(
    store: ArtifactStore, recipe: Recipe, data: ShardCaptions, config: TrainConfig, encoder: "Encoder", on_row: OnRow
) -> Manifest:
    """The ``embeddings`` artifact of a shard's captions: found by its key, else encoded text by text.

    Args:
        recipe: of :func:`embeddings_recipe`.
        data: where the shard and its captions lie.
        on_row: called with the number of texts encoded so far.
    """

    def build(folder: Path) -> dict[str, Any]:
        examples, _ = load_shard(data, config)
        # What is trained without text lends a geometry and no words; the empty prompt is there for it in any case, so
        # that ``missing_caption``, which is in no key, changes nothing.
        captions = (caption for example in examples if not example.without_text for caption in example.captions)
        prompts = (prompt for caption in captions for prompt in every_prompt(caption, config))
        empty = make_prompt("", "", style=config.prompt_style)
        texts = sorted({*empty, *(text for prompt in prompts for text in prompt)})

        def rows() -> Iterator[np.ndarray]:
            for text in texts:
                yield encoder.states(text)

        count = write_rows(folder, rows(), on_row)
        write_table(folder / _TABLE, [{"text": text} for text in texts], EMBEDDINGS)
        return {"rows": {_TABLE: count}, "texts": count, "machine": machine()}

    return store.build(recipe, build)[0]


class Embeddings:
    """The rows of one ``embeddings`` artifact.

    Args:
        folder: a local folder with its files.
    """

    def __init__(self, folder: Path) -> None:
        texts = read_table(folder / _TABLE, EMBEDDINGS).column("text").to_pylist()
        self._folder, self._rows = folder, {text: row for row, text in enumerate(texts)}

    def look_up(self, prompt: Prompt) -> np.ndarray | None:
        """The three texts of a prompt, (3, tokens, width); None where one of them is not held.

        Raises:
            VipError: where they cannot be read.
        """
        rows = [self._rows.get(text) for text in prompt]
        return None if None in rows else np.stack([read_row(self._folder, row) for row in rows if row is not None])
