"""Turns what a model made into the file that a user gets. Needs no torch."""

from __future__ import annotations

import io
import tempfile
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inference.engine.request import Video
from inference.protocol import GIF, JPEG, MP4, PNG, PREVIEW_MAX_BYTES, WEBP

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

    from inference.engine.request import Media

H264 = {"crf": "17", "preset": "fast"}
"""Options of libx264: losses that cannot be seen, at about 80 frames of 832 x 480 a second."""
STILLS: dict[str, tuple[str, dict[str, Any]]] = {
    PNG: ("PNG", {"compress_level": 4}),
    JPEG: ("JPEG", {"quality": 92, "subsampling": 0, "optimize": True}),
    WEBP: ("WEBP", {"quality": 92, "method": 4}),
}
"""Pillow's name and options for each kind of picture; chroma keeps its full resolution in JPEG."""
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


def encode(media: Media, content_type: str | None = None) -> Encoded:
    """Return the file of a picture or a clip. Takes long for a clip: not for the engine thread.

    `content_type` is one of those that `protocol.output_formats` names, None for PNG or MP4.
    Raises ValueError for one that this kind of media cannot be.
    """
    width, height = media.size
    kind = content_type or (MP4 if isinstance(media, Video) else PNG)
    if isinstance(media, Video) and kind == GIF:
        return Encoded(
            body=encode_gif(media),
            content_type=GIF,
            width=width,
            height=height,
            seconds=media.seconds,
        )
    if isinstance(media, Video) and kind == MP4:
        return Encoded(
            body=encode_mp4(media),
            content_type=MP4,
            width=width + width % 2,
            height=height + height % 2,
            seconds=media.seconds,
        )
    if isinstance(media, Video) or kind not in STILLS:
        raise ValueError(f"a {'clip' if isinstance(media, Video) else 'picture'} is no {kind}")
    return Encoded(body=encode_still(media, kind), content_type=kind, width=width, height=height)


def encode_still(image: Image, content_type: str) -> bytes:
    """Return `image` as a file without metadata: PNG is lossless, the others look the same."""
    name, options = STILLS[content_type]
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, format=name, **options)
    return buffer.getvalue()


def encode_gif(video: Video) -> bytes:
    """Return `video` as a GIF that plays for ever; 256 colours a frame, times in 1/100 s.

    What a frame lasts is rounded, and what that loses goes to the next, so the length is kept.
    """
    from PIL import Image

    frames = [Image.fromarray(frame).quantize(method=Image.Quantize.FASTOCTREE)
              for frame in video.frames]  # fmt: skip
    ends = [round(100 * (i + 1) / video.fps) for i in range(len(frames))]
    lasts = [10 * max(end - begin, 1) for begin, end in zip([0, *ends], ends, strict=False)]
    buffer = io.BytesIO()
    frames[0].save(
        buffer,
        format="GIF",
        save_all=True,
        append_images=frames[1:],
        duration=lasts,
        loop=0,
        disposal=1,
    )
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
