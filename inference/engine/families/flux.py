"""FLUX.1: dev, schnell, and models of their architecture."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any, ClassVar

from inference.engine.families.base import Family
from inference.engine.request import TEXT_TO_IMAGE, GenerationRequest
from inference.engine.sample import Inputs, Sample

if TYPE_CHECKING:
    from inference.engine.loaded import Loaded
    from inference.engine.request import Media

MAX_TEXT_TOKENS = 512


class Flux(Family):
    """A guidance-distilled model (dev) takes `guidance` as its embedded guidance.

    Any other model, and a distilled one given a negative prompt, takes it as the scale of true
    classifier-free guidance, which runs the model on two rows a step; at 1 or less there is none.
    """

    pipelines: ClassVar = {TEXT_TO_IMAGE: "FluxPipeline"}
    steps = 28
    guidance = 3.5

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
        return [
            {"encoder_hidden_states": s, "pooled_projections": p}
            for s, p in zip(states.split(1), pooled.split(1), strict=True)
        ]

    def prepare(self, sample: Sample) -> None:
        """Draw noise and set the timesteps, shifted by the size of the picture."""
        import numpy as np
        import torch
        from diffusers.pipelines.flux.pipeline_flux import calculate_shift, retrieve_timesteps

        loaded, request = sample.loaded, sample.request
        pipeline, device = self.pipeline_of(loaded, request), loaded.device.device
        states = sample.condition.positive["encoder_hidden_states"]
        sample.latents, image_ids = pipeline.prepare_latents(
            1,
            loaded.denoiser.config.in_channels // 4,
            request.height,
            request.width,
            states.dtype,
            device,
            sample.generator,
        )
        assert request.steps is not None
        config = sample.scheduler.config
        sigmas = np.linspace(1.0, 1 / request.steps, request.steps)
        mu = calculate_shift(
            sample.latents.shape[1],
            config.get("base_image_seq_len", 256),
            config.get("max_image_seq_len", 4096),
            config.get("base_shift", 0.5),
            config.get("max_shift", 1.15),
        )
        sample.timesteps, _ = retrieve_timesteps(
            sample.scheduler,
            request.steps,
            device,
            sigmas=None if config.get("use_flow_sigmas") else sigmas,
            mu=mu,
        )
        sample.scheduler.set_begin_index(0)
        sample.tokens = int(sample.latents.shape[1] + states.shape[1])
        text_ids = torch.zeros(states.shape[1], 3, device=device, dtype=states.dtype)
        sample.shared = {"img_ids": image_ids, "txt_ids": text_ids}
        if loaded.denoiser.config.guidance_embeds:
            # With true guidance besides, the stock pipeline embeds its own default.
            distilled = self._distilled(loaded, request)
            scale = sample.condition.guidance if distilled else self.guidance
            sample.fixed["guidance"] = torch.full([1], scale, device=device, dtype=torch.float32)

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

    def decode(self, sample: Sample) -> Generator[None, None, Media]:
        """Unpack and decode in one slice."""
        loaded, request = sample.loaded, sample.request
        pipeline, vae = loaded.base, loaded.vae
        latents = pipeline._unpack_latents(
            sample.latents, request.height, request.width, pipeline.vae_scale_factor
        )
        latents = latents / vae.config.scaling_factor + vae.config.shift_factor
        yield
        image = vae.decode(latents.to(vae.dtype), return_dict=False)[0]
        yield
        media: Media = pipeline.image_processor.postprocess(image, output_type="pil")[0]
        return media
