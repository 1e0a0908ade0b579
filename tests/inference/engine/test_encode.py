"""What a model made becomes a file that any browser shows, with the colours that were made."""

from __future__ import annotations

import io
import subprocess
import sys

import av
import numpy as np
import pytest
from PIL import Image

from inference.engine.encode import encode
from inference.engine.request import Video


def clip(frames: int = 17, height: int = 64, width: int = 96, fps: int = 16) -> Video:
    """A ramp of red to the right, of green downwards, of blue in time."""
    made = np.zeros((frames, height, width, 3), np.uint8)
    made[..., 0] = np.linspace(0, 255, width)
    made[..., 1] = np.linspace(0, 255, height)[:, None]
    made[..., 2] = np.linspace(0, 255, frames)[:, None, None]
    return Video(frames=made, fps=fps)


def decoded(body: bytes) -> np.ndarray:
    with av.open(io.BytesIO(body), "r") as container:
        return np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])


def test_a_clip_is_h264_that_browsers_play_at_its_speed() -> None:
    file = encode(clip())
    assert (file.content_type, file.width, file.height) == ("video/mp4", 96, 64)
    with av.open(io.BytesIO(file.body)) as container:
        (stream,) = container.streams.video
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert stream.average_rate == 16
        assert stream.frames == 17
        assert stream.duration is not None
        assert stream.time_base is not None
        assert float(stream.duration * stream.time_base) == file.seconds == 17 / 16


def test_the_index_comes_before_the_pictures() -> None:
    body = encode(clip()).body
    assert 0 < body.index(b"moov") < body.index(b"mdat")


def test_the_colours_are_those_of_the_frames() -> None:
    made = clip()
    found = decoded(encode(made).body).astype(int)
    assert found.shape == made.frames.shape
    error = np.abs(found - made.frames).mean(axis=(0, 1, 2))
    assert error.max() < 3, error


def test_odd_sides_are_rounded_up() -> None:
    file = encode(clip(frames=3, height=33, width=35))
    assert (file.width, file.height) == (36, 34)
    assert decoded(file.body).shape == (3, 34, 36, 3)


def test_one_frame_is_a_clip_too() -> None:
    assert len(decoded(encode(clip(frames=1)).body)) == 1


def test_a_picture_is_a_png_without_metadata() -> None:
    picture = Image.new("RGB", (20, 10), (200, 30, 30))
    picture.info["prompt"] = "secret"
    file = encode(picture)
    assert (file.content_type, file.width, file.height) == ("image/png", 20, 10)
    assert file.seconds is None
    found = Image.open(io.BytesIO(file.body))
    assert (found.format, found.info) == ("PNG", {})


@pytest.mark.parametrize(
    ("kind", "name"), [("image/jpeg", "JPEG"), ("image/webp", "WEBP"), ("image/png", "PNG")]
)
def test_a_picture_is_of_the_kind_that_is_asked_for(kind: str, name: str) -> None:
    ramp = np.zeros((64, 96, 3), np.uint8)
    ramp[..., 0], ramp[..., 1] = np.linspace(0, 255, 96), np.linspace(0, 255, 64)[:, None]
    picture = Image.fromarray(ramp)
    picture.info["prompt"] = "secret"
    file = encode(picture, kind)
    found = Image.open(io.BytesIO(file.body))
    assert (file.content_type, found.format, found.size) == (kind, name, (96, 64))
    assert "prompt" not in found.info
    assert b"secret" not in file.body
    assert np.abs(np.asarray(found.convert("RGB")).astype(int) - ramp).mean() < 2


def test_a_gif_lasts_as_long_as_its_clip() -> None:
    made = clip(frames=17, fps=16)
    file = encode(made, "image/gif")
    assert (file.content_type, file.width, file.height) == ("image/gif", 96, 64)
    found = Image.open(io.BytesIO(file.body))
    assert (found.n_frames, found.info["loop"]) == (17, 0)
    lasts = []
    for index in range(found.n_frames):
        found.seek(index)
        lasts.append(found.info["duration"])
        seen = np.asarray(found.convert("RGB")).astype(int)
        assert np.abs(seen - made.frames[index]).mean() < 16, index
    assert abs(sum(lasts) / 1000 - made.seconds) < 0.01


@pytest.mark.parametrize("kind", ["image/png", "image/webp", "text/html"])
def test_a_clip_is_no_picture(kind: str) -> None:
    with pytest.raises(ValueError, match=kind):
        encode(clip(frames=1), kind)


@pytest.mark.parametrize("module", ["inference.engine.encode", "inference.worker.inputs"])
def test_neither_files_in_nor_files_out_need_torch(module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
