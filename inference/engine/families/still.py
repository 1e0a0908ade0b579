"""What families of still pictures share: given pictures, masks, and how they enter the latents."""

from __future__ import annotations

import copy
import dataclasses
from abc import abstractmethod
from collections.abc import Generator, Hashable
from typing import TYPE_CHECKING, Any, ClassVar

from inference.engine.errors import InvalidRequestError
from inference.engine.families.base import Family
from inference.engine.request import TEXT_TO_IMAGE, GenerationRequest
from inference.engine.safety import is_nsfw
from inference.engine.sample import Inputs, Sample

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

    from inference.engine.loaded import Loaded
    from inference.engine.request import Media


class StillFamily(Family):
    """A family that draws pictures, may start from a given one, and redraws parts of it.

    A sample that keeps parts of a picture has in `fixed` the latents of the picture (`known`),
    the noise that was drawn for it (`noise`), and 1 in `mask` where it is drawn anew.
    """

    strengths: ClassVar[dict[str, float]]
    """How much of a given picture may change, by task, where a request does not say."""

    def complete(self, loaded: Loaded, request: GenerationRequest) -> GenerationRequest:
        """Besides, fill in the strength."""
        request = super().complete(loaded, request)
        if request.image is None or request.strength is not None:
            return request
        return dataclasses.replace(request, strength=self.strengths[request.task])

    def shared_key(self, sample: Sample) -> Hashable:
        """Samples of all tasks share a pass: the task shows only in the latents."""
        return (sample.request.width, sample.request.height)

    def stock(self, sample: Sample) -> Any:
        """Return the stock pipeline of the sample's task over the sample's own scheduler."""
        pipeline = copy.copy(self.pipeline_of(sample.loaded, sample.request))
        pipeline.scheduler = sample.scheduler
        return pipeline

    def cut_timesteps(self, sample: Sample, pipeline: Any) -> torch.Tensor:
        """Leave out the steps that a given picture makes needless; return the first one left, [1].

        Raises InvalidRequestError where none is left.
        """
        request = sample.request
        if request.task != TEXT_TO_IMAGE:
            sample.timesteps, _ = pipeline.get_timesteps(
                request.steps, request.strength, sample.loaded.device.device
            )
        if not len(sample.timesteps):
            raise InvalidRequestError(
                f"strength {request.strength:g} leaves none of the {request.steps} steps"
            )
        return sample.timesteps[:1]

    def picture(self, sample: Sample, pipeline: Any) -> torch.Tensor:
        """Return the given picture at the size to draw, [1, 3, height, width] in -1 to 1."""
        request = sample.request
        assert request.image is not None
        pixels: torch.Tensor = pipeline.image_processor.preprocess(
            request.image.convert("RGB"), height=request.height, width=request.width
        )
        return pixels

    def mask(self, sample: Sample, pipeline: Any) -> torch.Tensor:
        """Return the mask, [1, 1, height, width]: 1 where the picture is drawn anew, else 0."""
        request = sample.request
        mask: torch.Tensor = pipeline.mask_processor.preprocess(
            request.mask_image, height=request.height, width=request.width
        )
        return mask

    def packed_mask(self, sample: Sample, pipeline: Any) -> torch.Tensor:
        """Return the mask in patches of 2x2 latents, as of packed ones, [1, tokens, channels]."""
        import torch

        mask = self.mask(sample, pipeline)
        channels = sample.loaded.denoiser.config.in_channels // 4
        height, width = (side // pipeline.vae_scale_factor for side in mask.shape[2:])
        mask = torch.nn.functional.interpolate(mask, size=(height, width))
        packed: torch.Tensor = pipeline._pack_latents(
            mask.repeat(1, channels, 1, 1), 1, channels, height, width
        )
        return packed

    def advance(self, sample: Sample, predictions: Inputs) -> None:
        """Besides, put back what is kept of a given picture, as noisy as the next step wants it."""
        super().advance(sample, predictions)
        if "known" not in sample.fixed:
            return
        known, mask = sample.fixed["known"], sample.fixed["mask"]
        if sample.step < sample.steps:
            known = with_noise(
                sample.scheduler, known, sample.fixed["noise"], sample.time.reshape(1)
            )
        sample.latents = ((1 - mask) * known + mask * sample.latents).to(sample.latents.dtype)

    def decode(self, sample: Sample) -> Generator[None, None, Media]:
        """Decode in one slice, and have the picture looked at in another."""
        yield
        pixels = self.decode_latents(sample)
        yield
        base = sample.loaded.base
        picture: Image = base.image_processor.postprocess(pixels, output_type="pil")[0]
        sample.nsfw = is_nsfw(base, picture)
        return picture

    def preview_frame(self, sample: Sample) -> torch.Tensor:
        """Decode the picture."""
        return self.decode_latents(sample)

    @abstractmethod
    def decode_latents(self, sample: Sample) -> torch.Tensor:
        """Return the sample's pixels in -1 to 1, [1, 3, height, width]."""


def pooled_rows(states: torch.Tensor, pooled: torch.Tensor) -> list[Inputs]:
    """Return the text inputs of each row of states [rows, tokens, width] and pooled states."""
    return [
        {"encoder_hidden_states": s, "pooled_projections": p}
        for s, p in zip(states.split(1), pooled.split(1), strict=True)
    ]


def with_noise(
    scheduler: Any, latents: torch.Tensor, noise: torch.Tensor, time: torch.Tensor
) -> torch.Tensor:
    """Return `latents` as noisy as they are at `time`, [1]."""
    if hasattr(scheduler, "scale_noise"):
        noisy: torch.Tensor = scheduler.scale_noise(latents, time, noise)
    else:
        noisy = scheduler.add_noise(latents, noise, time)
    return noisy
