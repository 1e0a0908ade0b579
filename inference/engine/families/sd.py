"""Stable Diffusion 1.x, 2.x and XL."""

from __future__ import annotations

from typing import Any

from inference.engine.families.stock import StockFamily
from inference.engine.request import GenerationRequest


class StableDiffusion(StockFamily):
    """Stable Diffusion 1.x and 2.x."""

    pipeline = "StableDiffusionPipeline"
    steps = 30
    guidance = 7.5

    def default_side(self, pipeline: Any) -> int:
        """The UNet's configuration keeps it, in latent pixels."""
        return int(pipeline.unet.config.sample_size) * int(pipeline.vae_scale_factor)

    def arguments(self, pipeline: Any, request: GenerationRequest) -> dict[str, Any]:
        """An empty negative prompt is left to the pipeline, whose own default differs for XL."""
        return {
            "guidance_scale": request.guidance,
            "negative_prompt": request.negative_prompt or None,
        }


class StableDiffusionXL(StableDiffusion):
    """Stable Diffusion XL."""

    pipeline = "StableDiffusionXLPipeline"
    guidance = 5.0
