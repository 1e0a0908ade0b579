"""What families of clips share: how they ask their stock pipelines for latents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from inference.engine.sample import Sample


def latents_wanted(sample: Sample, channels: int) -> dict[str, Any]:
    """Return the arguments of `prepare_latents` for the sample's clip, noise in float32."""
    import torch

    request = sample.request
    return {
        "num_channels_latents": channels,
        "height": request.height,
        "width": request.width,
        "num_frames": request.num_frames,
        "dtype": torch.float32,
        "device": sample.loaded.device.device,
        "generator": sample.generator,
    }


def first_frame(sample: Sample, pipeline: Any) -> torch.Tensor:
    """Return the given picture at the clip's size, [1, 3, height, width] in -1 to 1."""
    request = sample.request
    assert request.image is not None
    pixels: torch.Tensor = pipeline.video_processor.preprocess(
        request.image.convert("RGB"), height=request.height, width=request.width
    )
    return pixels.to(sample.loaded.device.device)
