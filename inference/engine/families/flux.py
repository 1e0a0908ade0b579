"""FLUX.1: dev, schnell, and models of their architecture."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, ClassVar

from inference.engine.families.base import middle
from inference.engine.families.still import StillFamily, pooled_rows
from inference.engine.request import IMAGE_TO_IMAGE, INPAINT, TEXT_TO_IMAGE, GenerationRequest
from inference.engine.sample import Inputs, Sample

if TYPE_CHECKING:
    import torch

    from inference.engine.loaded import Loaded

MAX_TEXT_TOKENS = 512
FEW_STEPS = 4


class Flux(StillFamily):
    """A guidance-distilled model (dev) takes `guidance` as its embedded guidance.

    Any other model, and a distilled one given a negative prompt, takes it as the scale of true
    classifier-free guidance, which runs the model on two rows a step; at 1 or less there is none.
    A model without embedded guidance is taken for schnell where nothing else is said: 4 steps,
    no guidance.
    """

    pipelines: ClassVar = {
        TEXT_TO_IMAGE: "FluxPipeline",
        IMAGE_TO_IMAGE: "FluxImg2ImgPipeline",
        INPAINT: "FluxInpaintPipeline",
    }
    strengths: ClassVar = {IMAGE_TO_IMAGE: 0.6, INPAINT: 0.6}
    steps = 28
    guidance = 3.5

    def complete(self, loaded: Loaded, request: GenerationRequest) -> GenerationRequest:
        """Besides, ask of schnell what it was distilled for."""
        if not loaded.denoiser.config.guidance_embeds:
            request = dataclasses.replace(
                request,
                steps=FEW_STEPS if request.steps is None else request.steps,
                guidance=1.0 if request.guidance is None else request.guidance,
            )
        return super().complete(loaded, request)

    def default_size(self, pipeline: Any) -> tuple[int, int]:
        """The autoencoder's configuration keeps it; the pipeline's own default is always 1024."""
        side = int(pipeline.vae.config.sample_size)
        return side, side

    def size_multiple(self, pipeline: Any) -> int:
        """Latents are packed in 2x2 patches."""
        return int(pipeline.vae_scale_factor) * 2

    def window(self, loaded: Loaded, request: GenerationRequest) -> int:
        """Let a model with a short text window keep it."""
        return min(
            request.max_sequence_length or MAX_TEXT_TOKENS,
            int(loaded.base.tokenizer_2.model_max_length),
            MAX_TEXT_TOKENS,
        )

    def _distilled(self, loaded: Loaded, request: GenerationRequest) -> bool:
        return bool(loaded.denoiser.config.guidance_embeds) and not request.negative_prompt

    def negative_text(self, loaded: Loaded, request: GenerationRequest) -> str | None:
        """A distilled model has no negative branch unless it is given a negative prompt."""
        if self._distilled(loaded, request):
            return None
        return super().negative_text(loaded, request)

    def embed(self, loaded: Loaded, texts: list[str], window: int) -> list[Inputs]:
        """T5 states [1, window, 4096] and the pooled state of CLIP [1, 768]."""
        states, pooled, _ = loaded.base.encode_prompt(
            prompt=texts, prompt_2=None, device=loaded.device.device, max_sequence_length=window
        )
        return pooled_rows(states, pooled)

    def prepare(self, sample: Sample) -> None:
        """Draw noise, or mix it into the given picture, at timesteps shifted by its size."""
        import torch

        loaded, request = sample.loaded, sample.request
        pipeline, device = self.stock(sample), loaded.device.device
        states = sample.condition.positive["encoder_hidden_states"]
        channels = loaded.denoiser.config.in_channels // 4
        size = (request.height, request.width)
        self._set_timesteps(sample)
        first = self.cut_timesteps(sample, pipeline)
        common = (1, channels, *size, states.dtype, device, sample.generator)
        if request.task == TEXT_TO_IMAGE:
            sample.scheduler.set_begin_index(0)
            sample.latents, image_ids = pipeline.prepare_latents(*common)
        else:
            picture = self.picture(sample, pipeline)
            sample.latents, *kept, image_ids = pipeline.prepare_latents(picture, first, *common)
            if request.task == INPAINT:
                noise, known = kept
                mask = self.packed_mask(sample, pipeline).to(known)
                sample.fixed.update(known=known, noise=noise, mask=mask)
        sample.tokens = int(sample.latents.shape[1] + states.shape[1])
        text_ids = torch.zeros(states.shape[1], 3, device=device, dtype=states.dtype)
        sample.shared = {"img_ids": image_ids, "txt_ids": text_ids}
        if loaded.denoiser.config.guidance_embeds:
            # With true guidance besides, the stock pipeline embeds its own default.
            distilled = self._distilled(loaded, request)
            scale = sample.condition.guidance if distilled else self.guidance
            sample.fixed["guidance"] = torch.full([1], scale, device=device, dtype=torch.float32)

    def _set_timesteps(self, sample: Sample) -> None:
        import numpy as np
        from diffusers.pipelines.flux.pipeline_flux import calculate_shift, retrieve_timesteps

        request, config = sample.request, sample.scheduler.config
        assert request.steps is not None
        assert request.width is not None
        assert request.height is not None
        side = self.size_multiple(sample.loaded.base)
        mu = calculate_shift(
            (request.height // side) * (request.width // side),
            config.get("base_image_seq_len", 256),
            config.get("max_image_seq_len", 4096),
            config.get("base_shift", 0.5),
            config.get("max_shift", 1.15),
        )
        sigmas = np.linspace(1.0, 1 / request.steps, request.steps)
        sample.timesteps, _ = retrieve_timesteps(
            sample.scheduler,
            request.steps,
            sample.loaded.device.device,
            sigmas=None if config.get("use_flow_sigmas") else sigmas,
            mu=mu,
        )

    def inputs(self, sample: Sample) -> Inputs:
        """Packed latents [1, tokens, 64] and the timestep in 0 to 1."""
        latents = sample.latents
        inputs = {
            "hidden_states": latents,
            "timestep": sample.time.expand(1).to(latents.dtype) / 1000,
        }
        if "guidance" in sample.fixed:
            inputs["guidance"] = sample.fixed["guidance"]
        return inputs

    def latent_picture(self, sample: Sample) -> torch.Tensor:
        """Unpack the latents."""
        request, pipeline = sample.request, sample.loaded.base
        return middle(
            pipeline._unpack_latents(
                sample.latents, request.height, request.width, pipeline.vae_scale_factor
            )
        )

    def decode_latents(self, sample: Sample) -> torch.Tensor:
        """Unpack the latents and return pixels in -1 to 1, [1, 3, height, width]."""
        request, pipeline, vae = sample.request, sample.loaded.base, sample.loaded.vae
        latents = pipeline._unpack_latents(
            sample.latents, request.height, request.width, pipeline.vae_scale_factor
        )
        latents = latents / vae.config.scaling_factor + vae.config.shift_factor
        image: torch.Tensor = vae.decode(latents.to(vae.dtype), return_dict=False)[0]
        return image
