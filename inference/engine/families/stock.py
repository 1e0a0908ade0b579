"""The part that all families share which run a stock diffusers pipeline."""

from __future__ import annotations

import dataclasses
import importlib
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from inference.engine.errors import InvalidRequestError
from inference.engine.families.base import StepCallback
from inference.engine.request import GenerationRequest

if TYPE_CHECKING:
    from PIL.Image import Image

    from inference.engine.device import Device


def import_diffusers() -> Any:
    """Import diffusers (about 5 s the first time), off the network and quiet, and return it."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    logging.getLogger("transformers").setLevel(logging.ERROR)
    diffusers = importlib.import_module("diffusers")
    for library in ("diffusers", "transformers"):
        hub_logging = importlib.import_module(f"{library}.utils.logging")
        hub_logging.set_verbosity_error()
        hub_logging.disable_progress_bar()
    return diffusers


class StockFamily:
    """A diffusers pipeline class called with its own arguments; subclasses map a request to them.

    The result is that of the stock pipeline at the same seeds: starting noise is drawn on the
    CPU whatever the device, so that a seed means the same picture on each.
    """

    pipeline: ClassVar[str]
    steps: ClassVar[int]
    guidance: ClassVar[float]

    def load(self, directory: Path | None, device: Device) -> Any:
        """Load safetensors from `directory`; never pickle, network or code of the model's."""
        diffusers = import_diffusers()
        # The argument was renamed; the old name warns in newer versions.
        renamed = hasattr(diffusers.utils.deprecation_utils, "_resolve_dtype")
        pipeline = getattr(diffusers, self.pipeline).from_pretrained(
            directory,
            use_safetensors=True,
            local_files_only=True,
            **{"dtype" if renamed else "torch_dtype": device.dtype},
        )
        pipeline.set_progress_bar_config(disable=True)
        return pipeline.to(device.device)

    def size_multiple(self, pipeline: Any) -> int:
        """Return the number of pixels that both sides must be a multiple of."""
        return int(pipeline.vae_scale_factor)

    def default_side(self, pipeline: Any) -> int:
        """Return the side of the square picture that the model was trained for, in pixels."""
        raise NotImplementedError

    def complete(self, pipeline: Any, request: GenerationRequest) -> GenerationRequest:
        """Return `request` with defaults in. Raises InvalidRequestError at a bad size."""
        default = self.default_side(pipeline)
        multiple = self.size_multiple(pipeline)
        width = default if request.width is None else request.width
        height = default if request.height is None else request.height
        for name, value in (("width", width), ("height", height)):
            if value % multiple:
                raise InvalidRequestError(f"{name} must be a multiple of {multiple}, not {value}")
        return dataclasses.replace(
            request,
            width=width,
            height=height,
            steps=self.steps if request.steps is None else request.steps,
            guidance=self.guidance if request.guidance is None else float(request.guidance),
        )

    def arguments(self, pipeline: Any, request: GenerationRequest) -> dict[str, Any]:
        """Return the guidance arguments of the pipeline's call."""
        raise NotImplementedError

    def generate(
        self, pipeline: Any, request: GenerationRequest, seeds: list[int], on_step: StepCallback
    ) -> list[Image]:
        """Call the pipeline once for all seeds."""
        torch = importlib.import_module("torch")

        def after_step(pipe: Any, step: int, _time: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            on_step(step + 1, pipe.num_timesteps)
            return tensors

        with torch.inference_mode():
            result = pipeline(
                prompt=request.prompt,
                width=request.width,
                height=request.height,
                num_inference_steps=request.steps,
                num_images_per_prompt=len(seeds),
                generator=[torch.Generator("cpu").manual_seed(seed) for seed in seeds],
                callback_on_step_end=after_step,
                **self.arguments(pipeline, request),
            )
        images: list[Image] = result.images
        return images
