"""What the engine asks of a family; nothing outside `families` knows an architecture.

A family says how to encode a request, what one denoising step is and how to decode; batching,
caching, LoRA, quantisation and planning are built on that and know none of them.
"""

from __future__ import annotations

import copy
import dataclasses
import importlib
import json
import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Generator, Hashable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from inference.engine.canvas import extend
from inference.engine.errors import InvalidRequestError, WeightsMismatchError
from inference.engine.request import MAX_SIDE, GenerationRequest
from inference.engine.sample import NEGATIVE, POSITIVE, Condition, Inputs, Row, Sample, rows_key

if TYPE_CHECKING:
    import torch

    from inference.engine.device import Device
    from inference.engine.loaded import Loaded
    from inference.engine.request import Media


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


class Family(ABC):
    """An architecture. Adapters hold no state; what is loaded is in a `Loaded`.

    The result is that of the stock diffusers pipeline at the same seed: starting noise is drawn
    on the CPU whatever the device, so that a seed means the same picture on each.
    """

    pipelines: ClassVar[dict[str, str]]
    """The diffusers pipeline class that stands for each task the family can do."""
    aliases: ClassVar[dict[str, str]] = {}
    """Classes of other engines in a model's index, and the one of `pipelines` to load as."""
    steps: ClassVar[int]
    guidance: ClassVar[float]
    frames: ClassVar[int | None] = None
    """The default number of frames; None for a family of still pictures."""
    fps: ClassVar[int] = 16
    bound: ClassVar[float] = 1e-4
    """How far fp32 latents may be from the stock pipeline's, and from those of a run alone.

    A difference of one latent, as a share of the largest latent where that is above 1.
    """

    def load(self, directory: Path | None, device: Device) -> Any:
        """Return the stock pipeline of `directory`, whole on the device."""
        pipeline = self.read(directory, device)
        return None if pipeline is None else pipeline.to(device.device)

    def read(self, directory: Path | None, device: Device) -> Any:
        """Return the stock pipeline of `directory` in main memory, in the device's number format.

        It reads safetensors; never pickle, network or code of the model's.
        """
        diffusers = import_diffusers()
        assert directory is not None
        index = json.loads((directory / "model_index.json").read_text())
        name = self.aliases.get(index["_class_name"], index["_class_name"])
        if name not in self.pipelines.values():
            known = ", ".join(dict.fromkeys(self.pipelines.values()))
            raise WeightsMismatchError(f"a {name} is none of this family's {known}")
        # The argument was renamed; the old name warns in newer versions.
        renamed = hasattr(diffusers.utils.deprecation_utils, "_resolve_dtype")
        pipeline = getattr(diffusers, name).from_pretrained(
            directory,
            use_safetensors=True,
            local_files_only=True,
            # A part that was left out, such as a text encoder, must be named as absent.
            **{part: None for part, source in index.items() if source == [None, None]},
            **{"dtype" if renamed else "torch_dtype": device.dtype},
        )
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    @abstractmethod
    def size_multiple(self, pipeline: Any) -> int:
        """Return the number of pixels that both sides must be a multiple of."""

    @abstractmethod
    def default_size(self, pipeline: Any) -> tuple[int, int]:
        """Return the width and height that the model was trained for, in pixels."""

    def tasks(self, pipeline: Any) -> list[str]:
        """Return the tasks that these weights can do, of those that the family knows."""
        return list(self.pipelines)

    def pipeline_of(self, loaded: Loaded, request: GenerationRequest) -> Any:
        """Return the stock pipeline of the request's task."""
        return loaded.task(self.pipelines[request.task])

    def complete(self, loaded: Loaded, request: GenerationRequest) -> GenerationRequest:
        """Return `request` with defaults in. Raises InvalidRequestError at what does not fit."""
        if self.frames is not None:
            request = dataclasses.replace(request, video=True)
        tasks = self.tasks(loaded.base)
        if request.task not in tasks:
            known = ", ".join(tasks)
            fields = ("mask_image", "outpaint", "image")
            field = next((f for f in fields if getattr(request, f) is not None), "image")
            if request.image is None:
                raise InvalidRequestError(f"image is required: this model can do {known}")
            raise InvalidRequestError(f"{field} is not a field of this model: it can do {known}")
        request = self._on_canvas(loaded, request)
        width, height = self.default_size(loaded.base)
        if request.image is not None and request.width is None and request.height is None:
            width, height = self.size_like(loaded.base, request.image.size)
        width = width if request.width is None else request.width
        height = height if request.height is None else request.height
        multiple = self.size_multiple(loaded.base)
        for name, value in (("width", width), ("height", height)):
            if value % multiple:
                raise InvalidRequestError(f"{name} must be a multiple of {multiple}, not {value}")
        return dataclasses.replace(
            request,
            width=width,
            height=height,
            num_frames=self._frames(loaded, request),
            fps=(request.fps or self.fps) if self.frames else None,
            steps=self.steps if request.steps is None else request.steps,
            guidance=self.guidance if request.guidance is None else float(request.guidance),
        )

    def _on_canvas(self, loaded: Loaded, request: GenerationRequest) -> GenerationRequest:
        """Turn outpainting into inpainting on the larger canvas; the border is all new."""
        if request.outpaint is None:
            return request
        assert request.image is not None
        multiple = self.size_multiple(loaded.base)
        image, mask = extend(request.image, request.outpaint, multiple, MAX_SIDE)
        strength = 1.0 if request.strength is None else request.strength
        return dataclasses.replace(
            request, image=image, mask_image=mask, outpaint=None, strength=strength
        )

    def size_like(self, pipeline: Any, size: tuple[int, int]) -> tuple[int, int]:
        """Return the size to draw at for an input picture of `size` (width, height)."""
        multiple = self.size_multiple(pipeline)
        width, height = (max(multiple, side // multiple * multiple) for side in size)
        return width, height

    def _frames(self, loaded: Loaded, request: GenerationRequest) -> int | None:
        if self.frames is None:
            if request.num_frames is not None:
                raise InvalidRequestError("num_frames is not a field of this model")
            return None
        frames = self.frames if request.num_frames is None else request.num_frames
        every = self.frame_multiple(loaded.base)
        if (frames - 1) % every:
            raise InvalidRequestError(f"num_frames must be {every} times a number, plus 1")
        return frames

    def frame_multiple(self, pipeline: Any) -> int:
        """Return n where the number of frames must be a multiple of n, plus 1."""
        return 1

    @abstractmethod
    def embed(self, loaded: Loaded, texts: list[str], window: int) -> list[Inputs]:
        """Return the text inputs of the denoiser for each of `texts`, encoded as one batch.

        `window` is what `window` returned for the request: tokens to pad or cut to.
        """

    def window(self, loaded: Loaded, request: GenerationRequest) -> int:
        """Return the number of text tokens that the request may use."""
        return 77

    def negative_text(self, loaded: Loaded, request: GenerationRequest) -> str | None:
        """Return the text of the negative branch; None runs no negative branch."""
        assert request.guidance is not None
        return request.negative_prompt if request.guidance > 1 else None

    def encode(self, loaded: Loaded, requests: list[GenerationRequest]) -> list[Condition]:
        """Return the conditions of completed requests; equal texts are encoded once."""
        wanted: list[Hashable] = []
        for request in requests:
            window = self.window(loaded, request)
            both = (request.prompt, self.negative_text(loaded, request))
            wanted += [(text, window) for text in both if text is not None]

        def embed(keys: list[tuple[str, int]]) -> list[Inputs]:
            found: dict[tuple[str, int], Inputs] = {}
            for window in {window for _, window in keys}:
                texts = [text for text, w in keys if w == window]
                inputs = self.embed(loaded, texts, window)
                found.update({(t, window): i for t, i in zip(texts, inputs, strict=True)})
            return [found[key] for key in keys]

        texts = loaded.texts(wanted, embed)
        conditions = []
        for request in requests:
            window = self.window(loaded, request)
            negative = self.negative_text(loaded, request)
            condition = Condition(
                positive=dict(texts[request.prompt, window]),
                negative=None if negative is None else dict(texts[negative, window]),
                guidance=float(request.guidance or 0),
            )
            conditions.append(condition)
        return conditions

    def begin(
        self, loaded: Loaded, request: GenerationRequest, condition: Condition, seed: int
    ) -> Sample:
        """Return the sample of image or clip `seed`, ready for its first step."""
        import torch

        sample = Sample(
            loaded=loaded,
            request=request,
            condition=condition,
            latents=torch.empty(0),
            scheduler=copy.deepcopy(getattr(loaded.base, "scheduler", None)),
            timesteps=torch.empty(0),
            generator=torch.Generator("cpu").manual_seed(seed),
            tokens=1,
        )
        self.prepare(sample)
        sample.key = (id(loaded), rows_key(self.rows(sample)), self.shared_key(sample))
        return sample

    @abstractmethod
    def prepare(self, sample: Sample) -> None:
        """Set latents, timesteps, tokens (of one row), and what the steps need besides.

        Random numbers are drawn from `sample.generator` in the stock pipeline's order.
        """

    def shared_key(self, sample: Sample) -> Hashable:
        """Return what samples must have in common beside the shapes of their rows.

        The default is the size of the picture, which is all that `shared` depends on.
        """
        request = sample.request
        return (request.task, request.width, request.height, request.num_frames)

    def phase(self, sample: Sample) -> Hashable:
        """Return what changes as a sample goes on and keeps samples apart, such as an expert."""
        return None

    def rows(self, sample: Sample) -> list[Row]:
        """Return the rows of the sample's next step."""
        branches = [(POSITIVE, sample.condition.positive)]
        if sample.guided:
            assert sample.condition.negative is not None
            branches.insert(0, (NEGATIVE, sample.condition.negative))
        common = self.inputs(sample)
        return [
            Row(sample=sample, branch=branch, inputs={**common, **inputs})
            for branch, inputs in branches
        ]

    @abstractmethod
    def inputs(self, sample: Sample) -> Inputs:
        """Return what both branches of the next step take: latents, timestep and the like."""

    def predict(self, loaded: Loaded, inputs: Inputs, shared: dict[str, Any]) -> torch.Tensor:
        """Return the denoiser's prediction, [rows, ...]."""
        prediction: torch.Tensor = loaded.denoiser(**inputs, **shared, return_dict=False)[0]
        return prediction

    def guide(self, sample: Sample, predictions: Inputs) -> torch.Tensor:
        """Combine the branches (classifier-free guidance, arXiv 2207.12598)."""
        positive = predictions[POSITIVE]
        if NEGATIVE not in predictions:
            return positive
        negative = predictions[NEGATIVE]
        return negative + sample.condition.guidance * (positive - negative)

    def advance(self, sample: Sample, predictions: Inputs) -> None:
        """Take the sample one step further with the predictions of its branches."""
        dtype = sample.latents.dtype
        sample.latents = sample.scheduler.step(
            self.guide(sample, predictions),
            sample.time,
            sample.latents,
            return_dict=False,
            **self.step_arguments(sample),
        )[0].to(dtype)
        sample.step += 1

    def step_arguments(self, sample: Sample) -> dict[str, Any]:
        """Return further arguments of the scheduler's step."""
        return {}

    @abstractmethod
    def decode(self, sample: Sample) -> Generator[None, None, Media]:
        """Yield between slices of work; return the picture or the clip at the end."""

    def latent_picture(self, sample: Sample) -> torch.Tensor:
        """Return the latents as a picture, [channels, height, width]; of a clip, its middle."""
        return middle(sample.latents)

    def preview_frame(self, sample: Sample) -> torch.Tensor | None:
        """Decode a picture, or the middle of a clip: [1, 3, height, width] in -1 to 1.

        None where that needs more than the latents. It must leave the sample as it is.
        """
        return None


def middle(latents: torch.Tensor) -> torch.Tensor:
    """Return [channels, height, width] of one sample's latents, those of a clip in between."""
    found = latents[0]
    return found[:, found.shape[1] // 2] if found.ndim == 4 else found
