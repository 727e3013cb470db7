"""VIPOutpaintPipeline: outpainting with a centre and a surrounding text."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, DiffusionPipeline, StableDiffusionInpaintPipeline, UNet2DConditionModel
from diffusers.configuration_utils import ConfigMixin
from diffusers.image_processor import VaeImageProcessor
from diffusers.pipelines.stable_diffusion import StableDiffusionPipelineOutput
from diffusers.schedulers.scheduling_utils import KarrasDiffusionSchedulers
from diffusers.utils import logging
from diffusers.utils.torch_utils import randn_tensor
from PIL import Image
from transformers import CLIPTextModel, CLIPTokenizer

from schemas.errors import VipError
from vip.diffusion.control import Branches, CTSControl
from vip.diffusion.levels import Level, MaskMode, plan_levels, pooled_mask
from vip.diffusion.paste import paste_back
from vip.diffusion.picture import resize, to_masks, to_pixels
from vip.diffusion.prompt import Prompt, PromptStyle, make_prompt, parse_prompt
from vip.diffusion.text import cut_text, encode_texts
from vip.diffusion.unet import ControlledUNet

logger = logging.get_logger(__name__)

Text = str | Sequence[str] | None

_OUTPUT_TYPES = ("pil", "np", "pt", "latent")


class VIPOutpaintPipeline(DiffusionPipeline):
    """Stable Diffusion inpainting with C-T-S control.

    Saves and loads with ``save_pretrained`` and ``from_pretrained``; :meth:`from_base` puts fresh branches on an
    inpainting checkpoint. ``pipe.scheduler`` may be exchanged as in any diffusers pipeline.
    """

    model_cpu_offload_seq = "text_encoder->unet->vae"
    # The branches run inside the UNet's forward, so they have to be on the device whenever the UNet is.
    _exclude_from_cpu_offload = ["control"]  # noqa: RUF012
    _callback_tensor_inputs = ["latents"]  # noqa: RUF012

    def __init__(
        self,
        vae: AutoencoderKL,
        text_encoder: CLIPTextModel,
        tokenizer: CLIPTokenizer,
        unet: UNet2DConditionModel,
        control: CTSControl,
        scheduler: KarrasDiffusionSchedulers,
    ) -> None:
        super().__init__()
        self.register_modules(
            vae=vae, text_encoder=text_encoder, tokenizer=tokenizer, unet=unet, control=control, scheduler=scheduler
        )
        if unet.config["in_channels"] != 2 * vae.config["latent_channels"] + 1:
            raise VipError(
                f"the UNet takes {unet.config['in_channels']} channels; an inpainting UNet takes "
                f"{2 * vae.config['latent_channels'] + 1} (latents, mask, masked latents)",
                "choose an inpainting checkpoint as base",
            )
        self.vae_scale_factor = 2 ** (len(vae.config["block_out_channels"]) - 1)
        self.image_processor = VaeImageProcessor(vae_scale_factor=self.vae_scale_factor)
        self._interrupt = False
        self._num_timesteps = 0
        self._guidance_scale = 1.0
        self.controlled = ControlledUNet(unet, control)

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute as diffusers does; a UNet or control that is exchanged is what paints from then on."""
        super().__setattr__(name, value)
        if name in ("unet", "control") and value is not None and (held := self.__dict__.get("controlled")) is not None:
            held.control.detach(held.unet)
            self.controlled = ControlledUNet(self.unet, self.control)

    @classmethod
    def from_base(
        cls,
        base: str,
        branches: Branches = "cross_attention",
        mask_mode: MaskMode = "area",
        prompt_style: PromptStyle = "labelled",
        **options: Any,
    ) -> "VIPOutpaintPipeline":
        """Put fresh branches on a Stable Diffusion inpainting checkpoint (folder or hub id).

        Args:
            base: folder or hub id.
            branches, mask_mode, prompt_style: see :class:`~vip.diffusion.control.CTSControl`.
            options: for ``from_pretrained`` of diffusers, such as ``dtype`` (default float32).
        """
        # Without a type some parts would come as they are stored, others as float32.
        options.setdefault("dtype", torch.float32)
        plain = StableDiffusionInpaintPipeline.from_pretrained(
            base, safety_checker=None, feature_extractor=None, requires_safety_checker=False, **options
        )
        control = CTSControl.from_unet(plain.unet, branches, mask_mode, prompt_style)
        return cls(plain.vae, plain.text_encoder, plain.tokenizer, plain.unet, control, plain.scheduler)

    def save_pretrained(self, save_directory: str, *arguments: Any, **options: Any) -> None:
        """Write the pipeline as diffusers does, but so that the files hold nothing that does not belong to it.

        A config holds the path that its part was loaded from, so that one base in two folders would come out as two.
        The file of a tokenizer holds the padding and truncation of its last call, so that a pipeline that encoded a
        text would be written otherwise than the same one that did not: a training that finds its last step done.
        """
        backend = self.tokenizer.backend_tokenizer
        backend.no_padding()
        backend.no_truncation()
        for part in (self, *self.components.values()):
            if isinstance(part, ConfigMixin) and "_name_or_path" in part.config:
                part.register_to_config(_name_or_path="")
        super().save_pretrained(save_directory, *arguments, **options)

    @property
    def num_timesteps(self) -> int:
        """Steps of the current or last call."""
        return self._num_timesteps

    @property
    def guidance_scale(self) -> float:
        """Guidance of the current or last call."""
        return self._guidance_scale

    @property
    def interrupt(self) -> bool:
        """Set by a callback through ``pipe._interrupt = True`` to end the loop early."""
        return self._interrupt

    @torch.no_grad()
    def __call__(
        self,
        image: Any,
        mask_image: Any,
        prompt: Text = None,
        center_prompt: Text = None,
        surrounding_prompt: Text = None,
        negative_prompt: Text = None,
        negative_center_prompt: Text = None,
        negative_surrounding_prompt: Text = None,
        height: int | None = None,
        width: int | None = None,
        num_inference_steps: int = 50,
        guidance_scale: float = 7.5,
        num_images_per_prompt: int = 1,
        eta: float = 0.0,
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: torch.Tensor | None = None,
        paste: bool = True,
        feather: int | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: Callable[[Any, int, Any, dict[str, Any]], dict[str, Any]] | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
    ) -> StableDiffusionPipelineOutput | tuple[Any, None]:
        """Generate what the mask marks and keep the rest.

        Args:
            image: see :func:`vip.diffusion.picture.to_pixels`; one picture, or one for each prompt.
            mask_image: white (1) = generate; one mask, or one for each picture.
            prompt: the total text. Without the separate arguments it is also split into its halves
                (``Center: ...; Surrounding: ...``). Defaults to the two halves joined.
            center_prompt, surrounding_prompt: what is kept and what is to be generated; each defaults to its half of
                ``prompt``.
            negative_prompt, negative_center_prompt, negative_surrounding_prompt: what guidance leads away from; by
                default the texts with nothing filled in: ``Center:; Surrounding:`` and the empty halves.
            height, width: pixels, divisible by ``vae_scale_factor``; by default those of the picture. Other sizes are
                cropped to this aspect ratio and resized, pictures and masks alike.
            num_inference_steps: steps of the scheduler.
            guidance_scale: 1 or less turns guidance off.
            num_images_per_prompt: pictures for each prompt, laid together.
            eta: for DDIM.
            generator: one, or one for each picture that comes out.
            latents: initial noise, (pictures out, latent channels, height / factor, width / factor).
            paste: lay the known pixels over the result.
            feather: pixels of blending on the known side of the seam, see :func:`vip.diffusion.paste.feather_weights`;
                by default half of ``vae_scale_factor``. Known pixels outside it are bit-exact in ``pil`` and ``np``
                output.
            output_type: ``pil``, ``np`` (uint8-exact floats 0..1, (B, H, W, 3)), ``pt`` ((B, 3, H, W)) or ``latent``.
            return_dict: ``False`` gives ``(images, None)``.
            callback_on_step_end: called as in diffusers with ``latents`` in its dictionary.
            callback_on_step_end_tensor_inputs: names of what it is given; only ``latents``.

        Raises:
            VipError: for sizes, shapes, counts, masks or output types that cannot work, and for a UNet whose attention
                processors were replaced.
        """
        if output_type not in _OUTPUT_TYPES:
            raise VipError(f"output_type '{output_type}' is unknown", f"choose one of {', '.join(_OUTPUT_TYPES)}")
        for name, value in (
            ("num_images_per_prompt", num_images_per_prompt),
            ("num_inference_steps", num_inference_steps),
        ):
            if value < 1:
                raise VipError(f"{name} is {value}", "give 1 or more")
        if feather is not None and (feather < 0 or feather != int(feather)):
            raise VipError(f"feather is {feather}", "give whole pixels, 0 for none")
        self.control.require_attached(self.unet)
        pixels, masks = self._pictures(image, mask_image, height, width)
        prompts = self._prompts(prompt, center_prompt, surrounding_prompt, len(pixels))
        negatives = self._prompts(
            negative_prompt, negative_center_prompt, negative_surrounding_prompt, len(prompts), empty=True
        )
        batch, copies = max(len(pixels), len(prompts)), num_images_per_prompt
        pixels, masks = (_spread(array, batch, "pictures").repeat(copies, axis=0) for array in (pixels, masks))
        count = batch * copies
        self._guidance_scale, self._interrupt = guidance_scale, False
        guided = guidance_scale > 1
        device, dtype = self._execution_device, self.unet.dtype

        texts = self._encode(_spread(prompts, batch, "prompts"), copies)
        if guided:
            texts = [
                torch.cat(pair)
                for pair in zip(self._encode(_spread(negatives, batch, "negative prompts"), copies), texts, strict=True)
            ]

        size = (pixels.shape[1] // self.vae_scale_factor, pixels.shape[2] // self.vae_scale_factor)
        self.scheduler.set_timesteps(num_inference_steps, device=device)
        latents = self._initial_latents(
            latents, (count, self.vae.config.latent_channels, *size), generator, device, dtype
        )
        soft = torch.from_numpy(masks)[:, None].float()
        channels, levels = self._condition(pixels, soft, size, generator, 2 if guided else 1, device, dtype)

        extra = step_options(self.scheduler, generator, eta)
        self._num_timesteps = len(self.scheduler.timesteps)
        kept: dict[torch.nn.Module, tuple[torch.Tensor, torch.Tensor]] = {}
        with self.progress_bar(total=self._num_timesteps) as bar:
            for step, timestep in enumerate(self.scheduler.timesteps):
                if self._interrupt:
                    break
                doubled = torch.cat([latents] * 2) if guided else latents
                doubled = torch.cat([self.scheduler.scale_model_input(doubled, timestep), channels], dim=1)
                noise = self.controlled(doubled, timestep, *texts, levels, kept)
                if guided:
                    away, towards = noise.chunk(2)
                    noise = away + guidance_scale * (towards - away)
                latents = self.scheduler.step(noise, timestep, latents, **extra, return_dict=False)[0]
                if callback_on_step_end is not None:
                    values = {"latents": latents} if "latents" in callback_on_step_end_tensor_inputs else {}
                    latents = (callback_on_step_end(self, step, timestep, values) or {}).get("latents", latents)
                bar.update()

        pictures = self._finish(latents, pixels, masks, paste, feather, output_type)
        self.maybe_free_model_hooks()
        if not return_dict:
            return (pictures, None)
        return StableDiffusionPipelineOutput(images=pictures, nsfw_content_detected=None)

    def _pictures(self, image: Any, mask: Any, height: int | None, width: int | None) -> tuple[np.ndarray, np.ndarray]:
        pixels, masks = to_pixels(image), to_masks(mask)
        if pixels.shape[1:3] != masks.shape[1:3]:
            raise VipError(
                f"the picture is {pixels.shape[2]}x{pixels.shape[1]}, the mask {masks.shape[2]}x{masks.shape[1]}",
                "give a mask of the size of the picture",
            )
        height = pixels.shape[1] if height is None else height
        width = pixels.shape[2] if width is None else width
        if (
            min(height, width) < self.vae_scale_factor
            or height % self.vae_scale_factor
            or width % self.vae_scale_factor
        ):
            raise VipError(
                f"{width}x{height} is not divisible by {self.vae_scale_factor}",
                f"use {_round(width, self.vae_scale_factor)}x{_round(height, self.vae_scale_factor)}",
            )
        pixels, masks = resize(pixels, _spread(masks, max(len(pixels), len(masks)), "masks"), height, width)
        return _spread(pixels, len(masks), "pictures"), masks

    def _prompts(
        self, total: Text, center: Text, surrounding: Text, pictures: int, empty: bool = False
    ) -> list[Prompt]:
        if total is None and center is None and surrounding is None and not empty:
            raise VipError(
                "no text was given", "pass center_prompt and surrounding_prompt, or prompt; empty strings are fine"
            )
        lists = [
            [text] if text is None or isinstance(text, str) else list(text) for text in (total, center, surrounding)
        ]
        count = max(map(len, lists))
        if pictures > 1 and count not in (1, pictures):
            raise VipError(f"{count} texts for {pictures} pictures", "give one text, or one for each picture")
        prompts = []
        for whole, first, second in zip(*(_spread(texts, count, "texts") for texts in lists), strict=True):
            parsed = parse_prompt(whole) if whole is not None else ("", "")
            halves = (parsed[0] if first is None else first, parsed[1] if second is None else second)
            # Text before the first label survives only in the total, which is passed on as it was given.
            prompts.append(make_prompt(*halves, total=whole, style=self.control.config["prompt_style"]))
        return prompts

    def _encode(self, prompts: list[Prompt], copies: int) -> list[torch.Tensor]:
        """Total, centre and surrounding texts, each (prompts * copies, tokens, channels)."""
        for prompt in prompts:
            if cut := cut_text(self.tokenizer, prompt.total):
                logger.warning(
                    "the total text is longer than %d tokens; its end is read by the surrounding branch only: %s",
                    self.tokenizer.model_max_length,
                    cut,
                )
        encoded = [
            encode_texts(self.tokenizer, self.text_encoder, list(texts)).to(self._execution_device, self.unet.dtype)
            for texts in zip(*prompts, strict=True)
        ]
        return [part.repeat_interleave(copies, dim=0) for part in encoded]

    def _initial_latents(
        self,
        latents: torch.Tensor | None,
        shape: tuple[int, ...],
        generator: torch.Generator | list[torch.Generator] | None,
        device: torch.device,
        dtype: torch.dtype,
    ) -> torch.Tensor:
        if isinstance(generator, list) and len(generator) != shape[0]:
            raise VipError(f"{len(generator)} generators for {shape[0]} pictures", "give one, or one for each picture")
        if latents is None:
            latents = randn_tensor(shape, generator=generator, device=device, dtype=dtype)
        elif tuple(latents.shape) != shape:
            raise VipError(
                f"latents of shape {tuple(latents.shape)}, needed {shape}", "leave them out or match the shape"
            )
        return latents.to(device, dtype) * self.scheduler.init_noise_sigma

    def _condition(
        self,
        pixels: np.ndarray,
        masks: torch.Tensor,
        size: tuple[int, int],
        generator: torch.Generator | list[torch.Generator] | None,
        repeat: int,
        device: torch.device,
        dtype: torch.dtype,
    ) -> tuple[torch.Tensor, tuple[Level, ...]]:
        """The mask and masked-image channels, (repeat * B, 5, h, w), and the planned mask levels."""
        picture = torch.from_numpy(pixels.astype(np.float32) / 127.5 - 1).permute(0, 3, 1, 2)
        hidden = (picture * (masks < 0.5)).to(device, dtype)
        if isinstance(generator, list):
            parts = [
                self.vae.encode(one[None]).latent_dist.sample(own) for one, own in zip(hidden, generator, strict=True)
            ]
            known = torch.cat(parts)
        else:
            known = self.vae.encode(hidden).latent_dist.sample(generator)
        channels = torch.cat(
            [pooled_mask(masks, size, "nearest").to(known), known * self.vae.config.scaling_factor], dim=1
        )
        levels = plan_levels(masks, size, self.control.config["levels"], self.control.config["mask_mode"], repeat)
        return channels.repeat(repeat, 1, 1, 1), tuple(level.to(device) for level in levels)

    def _finish(
        self,
        latents: torch.Tensor,
        pixels: np.ndarray,
        masks: np.ndarray,
        paste: bool,
        feather: int | None,
        output_type: str,
    ) -> Any:
        if output_type == "latent":
            return latents
        decoded = self.vae.decode(latents / self.vae.config.scaling_factor, return_dict=False)[0]
        pictures = self.image_processor.postprocess(decoded, output_type="np")
        result = np.rint(pictures * 255).astype(np.uint8)
        if paste:
            result = paste_back(result, pixels, masks, self.vae_scale_factor // 2 if feather is None else feather)
        if output_type == "pil":
            return [Image.fromarray(one) for one in result]
        scaled = result.astype(np.float32) / 255
        return scaled if output_type == "np" else torch.from_numpy(scaled).permute(0, 3, 1, 2)


def step_options(scheduler: Any, generator: Any, eta: float = 0.0) -> dict[str, Any]:
    """What a scheduler's step takes of this: some draw noise at every step, and a generator makes that repeatable."""
    accepted = inspect.signature(scheduler.step).parameters
    return {name: value for name, value in (("eta", eta), ("generator", generator)) if name in accepted}


def _spread(values: Any, count: int, what: str) -> Any:
    """Repeat a single value ``count`` times; leave a full list as it is."""
    if len(values) == count:
        return values
    if len(values) != 1:
        raise VipError(f"{len(values)} {what} where {count} are needed", "give one, or one for each")
    return values.repeat(count, axis=0) if isinstance(values, np.ndarray) else list(values) * count


def _round(pixels: int, factor: int) -> int:
    return max(factor, round(pixels / factor) * factor)
