"""FLUX.1 and models of its shape."""

from __future__ import annotations

from typing import Any

from inference.engine.families.stock import StockFamily
from inference.engine.request import GenerationRequest

MAX_TEXT_TOKENS = 512


class Flux(StockFamily):
    """A guidance-distilled model (dev) takes `guidance` as its embedded guidance.

    Any other model, and a distilled one given a negative prompt, takes it as the scale of true
    classifier-free guidance, which runs the model twice a step; at 1 or less there is none.
    """

    pipeline = "FluxPipeline"
    steps = 28
    guidance = 3.5

    def default_side(self, pipeline: Any) -> int:
        """The autoencoder's configuration keeps it; the pipeline's own default is always 1024."""
        return int(pipeline.vae.config.sample_size)

    def size_multiple(self, pipeline: Any) -> int:
        """Latents are packed in 2x2 patches."""
        return int(pipeline.vae_scale_factor) * 2

    def arguments(self, pipeline: Any, request: GenerationRequest) -> dict[str, Any]:
        """Map guidance, and let a model with a short text window keep it."""
        window = min(
            request.max_sequence_length or MAX_TEXT_TOKENS,
            int(pipeline.tokenizer_2.model_max_length),
            MAX_TEXT_TOKENS,
        )
        if pipeline.transformer.config.guidance_embeds and not request.negative_prompt:
            return {"guidance_scale": request.guidance, "max_sequence_length": window}
        return {
            "guidance_scale": 1.0,
            "true_cfg_scale": request.guidance,
            "negative_prompt": request.negative_prompt,
            "max_sequence_length": window,
        }
