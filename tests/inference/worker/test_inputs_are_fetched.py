"""A job's files reach the engine as upright pictures; what is no picture names its field."""

from __future__ import annotations

import io
import struct
import time
import zlib
from concurrent.futures import Future
from typing import Any

import numpy as np
import pytest
import urllib3
from PIL import Image, ImageFile

from inference.engine.errors import InvalidRequestError
from inference.engine.pictures import read_picture
from inference.engine.request import GenerationRequest
from inference.worker import inputs
from inference.worker.inputs import fetch_all
from inference.worker.jobs import JobRunner
from tests.inference.control import Control
from tests.inference.process import WorkerProcess
from tests.inference.valkey import free_port

RED, BLUE = (255, 0, 0), (0, 0, 255)


def file_of(picture: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format=kind, **options)
    return buffer.getvalue()


def two_colours() -> Image.Image:
    """Red on the left half, blue on the right."""
    picture = Image.new("RGB", (40, 20), RED)
    picture.paste(BLUE, (20, 0, 40, 20))
    return picture


def png_claiming(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds nothing of it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + crc

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"")


def test_a_broken_file_is_refused_though_a_library_lets_them_through(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(InvalidRequestError, match="mask_image is a broken picture file"):
        read_picture("mask_image", file_of(two_colours())[:-40])


def test_image_and_mask_reach_the_engine(
    control: Control, runner: JobRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[GenerationRequest] = []
    submit = runner._engine.submit

    def spy(model: Any, request: GenerationRequest, **options: Any) -> Future[Any]:
        seen.append(request)
        return submit(model, request, **options)

    monkeypatch.setattr(runner._engine, "submit", spy)
    mask = Image.new("L", (40, 20), 0)
    mask.paste(255, (0, 0, 20, 20))
    addresses = {
        "image": control.input(file_of(two_colours())),
        "mask_image": control.input(file_of(mask)),
    }
    job = control.job(input={"prompt": "a"}, inputs=addresses)
    runner.run(job.to_dict())
    finished = control.finished(job)
    assert finished.timings_ms["inputs"] >= 0
    (request,) = seen
    assert request.task == "inpaint"
    assert request.image is not None
    assert request.mask_image is not None
    assert (request.image.mode, request.mask_image.mode) == ("RGB", "L")
    assert np.array_equal(np.asarray(request.image), np.asarray(two_colours()))
    assert np.array_equal(np.asarray(request.mask_image), np.asarray(mask))


def test_a_worker_draws_from_a_fetched_picture(control: Control, worker: WorkerProcess) -> None:
    address = control.input(file_of(two_colours(), "JPEG"))
    job = control.send(control.job(inputs={"image": address}))
    control.finished(job)
    assert "signature=hidden" not in worker.log()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_photo_is_turned_upright(kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright: turn right by 90 degrees to see it so
    body = file_of(two_colours(), kind, exif=exif, quality=100)
    picture = read_picture("image", body)
    assert picture.size == (20, 40)
    assert picture.info == {}
    top, bottom = np.asarray(picture)[5, 10], np.asarray(picture)[35, 10]
    assert top.argmax() == 0
    assert bottom.argmax() == 2


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16"])
def test_every_mode_becomes_rgb_and_a_mask_grey(mode: str) -> None:
    white = Image.new("L", (8, 8), 255)
    if mode == "I;16":
        picture = Image.fromarray(np.full((8, 8), 0xFFFF, np.uint16))
    else:
        picture = white.convert("RGB").convert(mode)
    body = file_of(picture, "JPEG" if mode == "CMYK" else "PNG")
    for field, expected in (("image", "RGB"), ("mask_image", "L")):
        found = read_picture(field, body)
        assert found.mode == expected
        assert np.asarray(found).min() >= 254


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "mask_image is not a PNG, JPEG or WebP picture"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "mask_image is not a PNG"),
        (file_of(two_colours(), "GIF"), "mask_image is not a PNG"),
        (file_of(two_colours(), "BMP"), "mask_image is not a PNG"),
        (file_of(two_colours())[:-40], "mask_image is a broken picture file"),
        (file_of(two_colours(), "JPEG")[:300], "mask_image is a broken picture file"),
        (png_claiming(100_000, 100_000), "mask_image has more than 33554432 pixels"),
        (png_claiming(8192, 4097), "mask_image has more than 33554432 pixels: 8192 x 4097"),
    ],
)
def test_what_is_no_picture_is_refused_by_its_field(body: bytes, says: str) -> None:
    with pytest.raises(InvalidRequestError, match=says):
        read_picture("mask_image", body)


def test_a_bomb_is_refused_before_it_is_decoded() -> None:
    bomb = file_of(Image.new("1", (30_000, 30_000)))
    assert len(bomb) < 2**20
    began = time.monotonic()
    with pytest.raises(InvalidRequestError, match="image has more than"):
        read_picture("image", bomb)
    assert time.monotonic() - began < 0.5


def test_a_broken_file_fails_the_job_as_invalid_input(control: Control, runner: JobRunner) -> None:
    job = control.job(inputs={"image": control.input(b"not a picture")})
    runner.run(job.to_dict())
    failed = control.failed(job)
    assert (failed.code, failed.retryable) == ("invalid_input", False)
    assert failed.message.startswith("image ")


def test_a_field_that_takes_no_file_is_named_and_not_fetched(
    control: Control, runner: JobRunner
) -> None:
    address = control.input(file_of(two_colours()))
    job = control.job(inputs={"style": address})
    gets = len(control.receiver.gets)
    runner.run(job.to_dict())
    failed = control.failed(job)
    assert failed.code == "invalid_input"
    assert failed.message.startswith("style ")
    assert len(control.receiver.gets) == gets


def test_a_file_that_is_gone_is_unavailable_for_good(control: Control, runner: JobRunner) -> None:
    job = control.job(inputs={"image": f"{control.receiver.url}/in/none?signature=hidden"})
    runner.run(job.to_dict())
    failed = control.failed(job)
    assert (failed.code, failed.retryable) == ("input_unavailable", False)
    assert failed.message == "image could not be read: HTTP 404"


def test_a_store_that_is_away_is_worth_another_attempt(control: Control, runner: JobRunner) -> None:
    job = control.job(inputs={"image": f"http://127.0.0.1:{free_port()}/x?signature=hidden"})
    runner.run(job.to_dict())
    failed = control.failed(job)
    assert (failed.code, failed.retryable) == ("input_unavailable", True)
    assert failed.message.startswith("image ")
    assert "hidden" not in failed.message


@pytest.mark.parametrize("trouble", ["refuse", "cut"])
def test_a_store_in_trouble_is_asked_again(
    control: Control, trouble: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    setattr(control.receiver, trouble, 1)
    address = control.input(file_of(two_colours()))
    media = fetch_all(urllib3.PoolManager(), {"image": address}, time.time() + 30)
    assert media["image"].size == (40, 20)
    assert getattr(control.receiver, trouble) == 0


def test_a_file_beyond_the_limit_is_not_read_to_its_end(
    control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inputs, "MAX_BYTES", 1000)
    address = control.input(bytes(2_000_000))
    with pytest.raises(InvalidRequestError, match="image has more than 1000 bytes"):
        fetch_all(urllib3.PoolManager(), {"image": address}, time.time() + 30)


def test_a_redirect_is_not_followed(control: Control) -> None:
    import http.server
    import threading

    target = control.input(file_of(two_colours()))

    class Redirects(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(302)
            self.send_header("Location", target)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            return None

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Redirects)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        address = f"http://127.0.0.1:{server.server_address[1]}/x"
        with pytest.raises(inputs.InputUnavailableError, match="HTTP 302"):
            fetch_all(urllib3.PoolManager(), {"image": address}, time.time() + 30)
    finally:
        server.shutdown()
        server.server_close()
