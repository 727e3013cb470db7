"""Sample: what a checkpoint makes of the images of an exam."""

import io
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from schemas.canonical import fingerprint, sha256_hex
from schemas.evaluate_config import PROMPTS_OF, EvaluateConfig
from schemas.manifest import Manifest, Recipe
from schemas.region import View, masks_of, params_of, region_json
from schemas.tables import GENERATED
from storage.shards import read_one
from storage.store import ArtifactStore
from storage.tables import write_table
from vip.evaluation.exam import Item, Text
from vip.evaluation.known_part import psnr_known
from vip.machine import machine
from vip.regions.mask import render_mask
from vip.regions.view import render_view

if TYPE_CHECKING:
    from vip.diffusion.pipeline import VIPOutpaintPipeline

TAR = "generated.tar"
TABLE = "samples.parquet"
FORMAT = 2
"""Raised when the same images, regions and texts make other files, or when the key says more."""

NOISE = "control:noise"

Progress = Callable[[str, int, int], None]
"""(what, done, total)"""


class Sampler:
    """A checkpoint, loaded when it is first needed, so that an exam whose samples all exist loads no model."""

    def __init__(self, store: ArtifactStore, checkpoint: Manifest) -> None:
        self.store = store
        self.checkpoint = checkpoint
        self._pipeline: VIPOutpaintPipeline | None = None

    @property
    def pipeline(self) -> "VIPOutpaintPipeline":
        """The pipeline, on the GPU where there is one."""
        if self._pipeline is None:
            from vip.outpaint.load import load_outpainter, pipeline_folder

            self._pipeline = load_outpainter(self.store.local(self.checkpoint) / pipeline_folder(self.checkpoint))
        return self._pipeline


def make_samples(
    store: ArtifactStore,
    config: EvaluateConfig,
    sampler: Sampler,
    setting: str,
    items: Sequence[Item],
    texts: dict[str, Text | None],
    progress: Progress,
) -> Manifest:
    """Generate one picture for each item, or find them.

    Returns:
        A ``samples`` artifact: ``generated.tar`` with two PNGs an image, ``samples.parquet`` (schema ``GENERATED``).
    """
    shards = {ref.key: ref for ref in (item.shard for item in items)}
    told = (texts[item.image_sha256] for item in items)
    captions = {text.source.key: text.source for text in told if text is not None}
    members = [
        [item.image_sha256, item.view.id, params_of(item.region), getattr(texts[item.image_sha256], "caption_id", "")]
        for item in items
    ]
    recipe = Recipe(
        kind="samples",
        stage="make_samples",
        inputs={
            # Noise is no model's: every checkpoint shares it.
            **({} if setting == NOISE else {"checkpoint": sampler.checkpoint.ref}),
            **{f"shard/{store.require(ref).params['prefix']}": ref for ref in shards.values()},
            **{f"captions/{number}": ref for number, (_, ref) in enumerate(sorted(captions.items()))},
        },
        params={
            "setting": setting,
            "prompts": PROMPTS_OF[setting],
            "members": fingerprint(members),
            "sampler": {"seed": config.seed, "feather": config.feather} if setting == NOISE else config.sampler(),
            "view": items[0].view.model_dump(mode="json"),
            "format": FORMAT,
        },
    )

    def build(folder: Path) -> dict[str, Any]:
        rows: list[dict[str, Any]] = []
        with tarfile.open(folder / TAR, "w", format=tarfile.USTAR_FORMAT) as tar:
            for start in range(0, len(items), config.batch_size):
                progress(f"sampling, {setting}", start, len(items))
                for row, pasted, unpasted in _batch(
                    store, config, sampler, setting, items[start : start + config.batch_size], texts
                ):
                    _add(tar, row["pasted"], pasted)
                    _add(tar, row["unpasted"], unpasted)
                    rows.append(row)
        progress(f"sampling, {setting}", len(items), len(items))
        count = write_table(folder / TABLE, rows, GENERATED)
        stats = {"rows": {TABLE: count, TAR: 2 * count}, "images": count, "machine": machine()}
        # The table does not say where the files of masks lie, and who draws the known part needs to know.
        return {**stats, "masks": masks} if (masks := masks_of(item.region for item in items)) else stats

    return store.build(recipe, build)[0]


def seed_of(seed: int, image_sha256: str) -> int:
    """The seed of one image's own generator, so that its picture does not depend on its place in a batch."""
    return int(sha256_hex(f"{seed}/{image_sha256}".encode())[:12], 16)


def originals(store: ArtifactStore, items: Sequence[Item]) -> np.ndarray:
    """The real pixels of the items in their view, uint8 of shape (n, height, width, 3)."""
    shards = {ref.key: store.require(ref) for ref in (item.shard for item in items)}
    return np.stack([render_view(read_one(store, shards[item.shard.key], item.sample), item.view) for item in items])


def _batch(
    store: ArtifactStore,
    config: EvaluateConfig,
    sampler: Sampler,
    setting: str,
    items: Sequence[Item],
    texts: dict[str, Text | None],
) -> list[tuple[dict[str, Any], np.ndarray, np.ndarray]]:
    from vip.diffusion.paste import paste_back

    real = originals(store, items)
    masks = np.stack([render_mask(item.region, item.view) for item in items])
    told = [texts[item.image_sha256] for item in items]
    seeds = [seed_of(config.seed, item.image_sha256) for item in items]
    if setting == NOISE:
        unpasted = np.stack([_noise(seed, item.view) for seed, item in zip(seeds, items, strict=True)])
    else:
        unpasted = _generate(sampler.pipeline, config, real, masks, told, seeds)
    pasted = paste_back(unpasted, real, masks, config.feather)
    rows = []
    for place, (item, text) in enumerate(zip(items, told, strict=True)):
        row = {
            "image_sha256": item.image_sha256,
            "view_json": item.view.model_dump_json(),
            "region_json": region_json(item.region),
            "setting": setting,
            "caption_id": text.caption_id if text else None,
            "center_prompt": text.center if text else "",
            "surrounding_prompt": text.surrounding if text else "",
            "seed": seeds[place],
            "pasted": f"{item.image_sha256}.pasted.png",
            "unpasted": f"{item.image_sha256}.unpasted.png",
            "psnr_known_pasted": psnr_known(real[place], pasted[place], masks[place]),
            "psnr_known_unpasted": psnr_known(real[place], unpasted[place], masks[place]),
        }
        rows.append((row, pasted[place], unpasted[place]))
    return rows


def _generate(
    pipeline: "VIPOutpaintPipeline",
    config: EvaluateConfig,
    real: np.ndarray,
    masks: np.ndarray,
    told: Sequence[Text | None],
    seeds: Sequence[int],
) -> np.ndarray:
    import torch

    made, _ = pipeline(
        image=list(real),
        mask_image=list(masks),
        center_prompt=[text.center if text else "" for text in told],
        surrounding_prompt=[text.surrounding if text else "" for text in told],
        num_inference_steps=config.steps,
        guidance_scale=config.guidance,
        generator=[torch.Generator("cpu").manual_seed(seed) for seed in seeds],
        paste=False,
        output_type="np",
        return_dict=False,
    )
    return np.rint(made * 255).astype(np.uint8)


def _noise(seed: int, view: View) -> np.ndarray:
    """Uniform noise, the far end of every distance."""
    rng = np.random.Generator(np.random.PCG64(seed))
    return rng.integers(0, 256, (view.height, view.width, 3), np.uint8)


def _add(tar: tarfile.TarFile, name: str, pixels: np.ndarray) -> None:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    info = tarfile.TarInfo(name)
    info.size, info.mode = buffer.tell(), 0o644
    buffer.seek(0)
    tar.addfile(info, buffer)
