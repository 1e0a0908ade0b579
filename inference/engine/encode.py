"""Turns what a model made into the file that a user gets: PNG or MP4. Needs no torch."""

from __future__ import annotations

import io
import tempfile
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from inference.engine.request import Video
from inference.protocol import MP4, PNG, PREVIEW_MAX_BYTES

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

    from inference.engine.request import Media

H264 = {"crf": "17", "preset": "fast"}
"""Options of libx264: losses that cannot be seen, at about 80 frames of 832 x 480 a second."""
PREVIEW_SIDE = 256
"""Most pixels on a side of a preview."""
PREVIEW_LEAST = 128
"""Smaller ones are made larger smoothly: as files they would show their blocks."""
BT709 = 1
"""Number of ITU-R BT.709 in H.264's tables of primaries, transfer and matrix; limited range."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """A file, and what its receiver is told of it. `seconds` is set for a clip."""

    body: bytes
    content_type: str
    width: int
    height: int
    seconds: float | None = None


def encode(media: Media) -> Encoded:
    """Return the file of a picture or a clip. Takes long for a clip: not for the engine thread."""
    width, height = media.size
    if isinstance(media, Video):
        return Encoded(
            body=encode_mp4(media),
            content_type=MP4,
            width=width + width % 2,
            height=height + height % 2,
            seconds=media.seconds,
        )
    return Encoded(body=encode_png(media), content_type=PNG, width=width, height=height)


def encode_png(image: Image) -> bytes:
    """Return `image` as a PNG file, lossless and without metadata."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", compress_level=4)
    return buffer.getvalue()


def encode_preview(pixels: np.ndarray) -> bytes:
    """Return uint8 [height, width, 3] as a small WebP file of at most PREVIEW_MAX_BYTES."""
    from PIL import Image

    image = Image.fromarray(pixels)
    if (longest := max(image.size)) < PREVIEW_LEAST:
        width, height = (max(1, side * PREVIEW_LEAST // longest) for side in image.size)
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    side, quality = PREVIEW_SIDE, 75
    while True:
        image.thumbnail((side, side))
        buffer = io.BytesIO()
        image.save(buffer, format="WEBP", quality=quality, method=2)
        if buffer.tell() <= PREVIEW_MAX_BYTES:
            return buffer.getvalue()
        side, quality = side * 3 // 4, max(quality - 15, 30)


def encode_mp4(video: Video) -> bytes:
    """Return `video` as MP4: H.264, yuv420p, index first, so that every browser plays it at once.

    H.264 of this kind has even sides only: an odd one gets its last row or column twice.
    """
    import numpy as np

    frames = video.frames
    odd = [side % 2 for side in frames.shape[1:3]]
    if any(odd):
        frames = np.pad(frames, ((0, 0), (0, odd[0]), (0, odd[1]), (0, 0)), mode="edge")
    # The index is moved to the front by reading the file again, so a buffer will not do.
    with tempfile.TemporaryDirectory(prefix="mercato-") as folder:
        path = Path(folder) / "clip.mp4"
        _write(path, np.ascontiguousarray(frames), video.fps)
        return path.read_bytes()


def _write(path: Path, frames: np.ndarray, fps: int) -> None:
    import av

    with av.open(path, "w", format="mp4", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=Fraction(fps), options=H264)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        # Players guess the colours of a file that does not say which they are.
        stream.codec_context.colorspace = BT709
        stream.codec_context.color_primaries = BT709
        stream.codec_context.color_trc = BT709
        stream.codec_context.color_range = BT709
        for array in frames:
            frame = av.VideoFrame.from_ndarray(array, format="rgb24").reformat(
                format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG"
            )
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
