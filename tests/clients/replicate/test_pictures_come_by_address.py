"""A picture of an input is an upload, a data URI or an address; each becomes the caller's file."""

import base64
import http.server
import io
import threading

import pytest
from PIL import Image
from replicate.exceptions import ReplicateError

from marketplace.core import http as outbound
from marketplace.jobs.models import File, Job
from tests.cast import SCHEMA, listed_version
from tests.clients.conftest import working

WITH_IMAGE = {
    **SCHEMA,
    "properties": {**SCHEMA["properties"], "image": {"type": "string", "format": "file-id"}},
}


def picture(kind="PNG"):
    made = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(made, kind)
    return made.getvalue()


PICTURE = picture()


@pytest.fixture
def painter(market):
    made = listed_version(
        market.vendor, market.licence, market.sam, name="painter", input_schema=WITH_IMAGE
    )
    return made.model.ref


@pytest.fixture
def site(settings):
    """A server of pictures on this machine, which OUTBOUND_ALLOW_CIDRS lets in."""
    settings.OUTBOUND_ALLOW_CIDRS = ["127.0.0.0/8"]

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            status, headers, body = self.server.pages[self.path]
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.url = f"http://127.0.0.1:{server.server_port}"
    server.pages = {
        "/red.png": (200, {"Content-Type": "text/html"}, PICTURE),
        "/page": (200, {"Content-Type": "image/png"}, b"<html>not a picture</html>"),
        "/moved": (302, {"Location": "/red.png"}, b""),
        "/inside": (302, {"Location": "http://169.254.169.254/latest"}, b""),
        "/round": (302, {"Location": "/round"}, b""),
        "/gone": (404, {}, b""),
    }
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


def run(client, painter, image):
    with working():
        client.run(painter, input={"prompt": "a red circle", "image": image})
    job = Job.objects.get()
    return File.objects.get(pk=job.input["image"])


def refused(client, painter, image):
    with pytest.raises(ReplicateError) as caught:
        client.run(painter, input={"prompt": "x", "image": image})
    assert caught.value.status == 422
    assert caught.value.detail.startswith("input.image: ")
    assert Job.objects.count() == 0
    return caught.value.detail


def content(file):
    from marketplace.core.storage import storage

    return b"".join(storage().read(file.key))


def data_uri(body, kind="image/png"):
    return f"data:{kind};base64,{base64.b64encode(body).decode()}"


def test_an_open_file_is_uploaded_by_the_client(market, client, painter, tmp_path):
    path = tmp_path / "red.png"
    path.write_bytes(PICTURE)
    file = run(client, painter, path.open("rb"))
    assert (file.org, file.content_type, content(file)) == (market.developer, "image/png", PICTURE)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_data_uri(market, client, painter, kind):
    file = run(client, painter, data_uri(picture(kind), "application/octet-stream"))
    assert (file.org, file.content_type) == (market.developer, f"image/{kind.lower()}")


@pytest.mark.parametrize("path", ["/red.png", "/moved"])
def test_an_address(market, client, painter, site, path):
    file = run(client, painter, site.url + path)
    assert (file.org, file.content_type, content(file)) == (market.developer, "image/png", PICTURE)


def test_the_output_of_another_call_is_the_same_file(market, client, painter):
    with working():
        (made,) = client.run(market.ref, input={"prompt": "x"})
        client.run(painter, input={"prompt": "x", "image": made})
    first, second = Job.objects.order_by("created_at")
    assert second.input["image"] == str(first.outputs.get().pk)


def test_api_v1_takes_them_too(market, painter):
    from rest_framework.test import APIClient

    api = APIClient()
    api.credentials(HTTP_AUTHORIZATION=f"Bearer {market.secret}")
    body = {"model": painter, "input": {"prompt": "x", "image": data_uri(PICTURE)}}
    first = api.post("/v1/jobs", body, format="json", HTTP_IDEMPOTENCY_KEY="once")
    again = api.post("/v1/jobs", body, format="json", HTTP_IDEMPOTENCY_KEY="once")
    assert (first.status_code, again.status_code) == (202, 200)
    assert first.json()["id"] == again.json()["id"]
    assert File.objects.filter(purpose="input").count() == 1, "a repetition brings nothing"


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/page", "no PNG, JPEG or WebP"),
        ("/inside", "does not lead to a public address"),
        ("/round", "leads on too often"),
        ("/gone", "answered 404"),
    ],
)
def test_addresses_that_lead_to_no_picture(market, client, painter, site, path, why):
    assert why in refused(client, painter, site.url + path)


@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1:1/x.png",
        "http://[::1]/x.png",
        "http://169.254.169.254/",
        "http://10.0.0.1",
    ],
)
def test_private_addresses_are_not_asked(market, client, painter, address):
    assert "public address" in refused(client, painter, address)


def test_a_name_is_looked_up_once(market, client, painter, site, monkeypatch):
    """A second answer of the name server (DNS rebinding) is never asked for."""
    asked = []
    real = outbound.socket.getaddrinfo

    def once(host, *args, **kwargs):
        if host == "pictures.example":
            asked.append(host)
            return real("127.0.0.1" if len(asked) == 1 else "10.0.0.1", *args, **kwargs)
        return real(host, *args, **kwargs)

    monkeypatch.setattr(outbound.socket, "getaddrinfo", once)
    port = site.url.rpartition(":")[2]
    run(client, painter, f"http://pictures.example:{port}/red.png")
    assert asked == ["pictures.example"]


def test_too_large_is_refused(market, client, painter, site, settings):
    settings.INPUT_FETCH_MAX_BYTES = len(PICTURE) - 1
    assert "more than" in refused(client, painter, site.url + "/red.png")
    assert "too large" in refused(client, painter, data_uri(PICTURE))


@pytest.mark.parametrize("uri", ["data:image/png;base64", "data:image/png;base64,***", "data:,x"])
def test_a_broken_data_uri(market, client, painter, uri):
    refused(client, painter, uri)


def test_a_strangers_file_is_none(market, client, make_client, painter):
    theirs = make_client(market.stranger_secret).files.create(io.BytesIO(PICTURE))
    assert "There is no such file" in refused(client, painter, theirs.urls["get"])
