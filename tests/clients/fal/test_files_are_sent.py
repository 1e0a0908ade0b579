"""Files reach us by each of the client's ways, and become inputs; by no other way."""

import base64
import io
import os
import re
import time

import fal_client
import httpx
import pytest
from fal_client.client import FalClientHTTPError
from PIL import Image

from marketplace.core.storage import storage
from marketplace.jobs import places
from marketplace.jobs.models import File, Job
from tests.cast import SCHEMA, listed_version
from tests.clients.conftest import working


def picture():
    made = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(made, "PNG")
    return made.getvalue()


PICTURE = picture()


@pytest.fixture
def painter(market):
    """A model that takes a picture."""
    schema = {
        **SCHEMA,
        "properties": {**SCHEMA["properties"], "image": {"type": "string", "format": "file-id"}},
    }
    made = listed_version(
        market.vendor, market.licence, market.sam, name="vary", input_schema=schema
    )
    return made.model.ref


def content(file):
    return b"".join(storage().read(file.key))


def assert_taken(market, client, painter, url):
    with working():
        assert client.run(painter, {"prompt": "x", "image": url})["seed"] == 7
    file = File.objects.get(pk=Job.objects.get().input["image"])
    assert (file.org, content(file)) == (market.developer, PICTURE)


def test_a_file_is_sent_and_used(market, client, painter, tmp_path):
    path = tmp_path / "red.png"
    path.write_bytes(PICTURE)
    url = client.upload_file(path)
    file = File.objects.get()
    assert (file.name, file.content_type, file.size) == ("red.png", "image/png", len(PICTURE))
    assert url == f"{market.url}/fal/cdn/files/{file.pk}"
    assert_taken(market, client, painter, url)
    got = httpx.get(url, headers={"Authorization": f"Key {market.secret}"}, follow_redirects=True)
    assert got.content == PICTURE


def test_the_older_way(market, client, painter):
    url = client.upload(PICTURE, "image/png", "red.png", repository="fal")
    assert_taken(market, client, painter, url)


def test_a_picture_and_a_data_uri(market, client, painter, tmp_path):
    assert client.upload_image(Image.new("RGB", (4, 4)), format="png").startswith(market.url)
    path = tmp_path / "red.png"
    path.write_bytes(PICTURE)
    assert_taken(market, client, painter, fal_client.encode_file(path))


def test_a_large_file_comes_in_parts(market, client, monkeypatch, tmp_path):
    monkeypatch.setattr("fal_client.client.MULTIPART_THRESHOLD", 2**20)
    body = os.urandom(12 * 2**20)
    url = client.upload(body, "video/mp4", "clip.mp4")
    file = File.objects.get(deleted_at__isnull=True)
    assert (file.name, file.content_type, file.size) == ("clip.mp4", "video/mp4", len(body))
    assert content(file) == body
    assert url.endswith(str(file.pk))
    path = tmp_path / "clip.mp4"
    path.write_bytes(body)
    assert client.upload_file(path) != url
    assert File.objects.filter(deleted_at__isnull=True).count() == 2, "no part is left"


def test_files_may_be_kept_for_less_long(market, client):
    kept = fal_client.client.StorageSettings(expires_in="1h")
    client.upload(b"x", "text/plain", lifecycle=kept)
    client.upload(b"y", "text/plain", lifecycle=kept, repository="fal")
    for file in File.objects.all():
        assert (file.expires_at - file.created_at).total_seconds() == pytest.approx(3600, abs=2)


def test_a_file_may_be_larger_than_other_bodies_but_not_than_files(market, client, settings):
    body = b"x" * (settings.DATA_UPLOAD_MAX_MEMORY_SIZE + 2**20)
    client.upload(body, "text/plain")
    settings.FILE_MAX_BYTES = 2**20
    for way in ("fal_v3", "fal"):
        with pytest.raises(FalClientHTTPError) as caught:
            client.upload(body, "text/plain", repository=way, fallback_repository=way)
        assert caught.value.status_code == 413
    assert File.objects.count() == 1


def test_parts_are_bounded_and_must_be_there(market, client, settings, monkeypatch):
    monkeypatch.setattr("fal_client.client.MULTIPART_THRESHOLD", 2**20)
    settings.FILE_MAX_BYTES = 10 * 2**20
    with pytest.raises(FalClientHTTPError) as caught:
        client.upload(b"x" * 12 * 2**20, "text/plain")
    assert (caught.value.status_code, caught.value.error_type) == (422, "file_too_large")
    settings.FILE_MAX_BYTES = 11 * 2**20
    with pytest.raises(FalClientHTTPError) as caught:
        client.upload(b"x" * 12 * 2**20, "text/plain")
    assert caught.value.error_type == "file_too_large"
    place = places.place_make(org=market.developer, name="x", content_type="text/plain")
    base = f"https://v3.fal.media/files/{place.file}/multipart/{place.token}"
    assert httpx.put(f"{base}/1", content=b"x" * (places.PART_BYTES + 1)).status_code == 413
    for number in (0, 3):
        assert httpx.put(f"{base}/{number}", content=b"x").status_code == 422
    etag = httpx.put(f"{base}/1", content=b"x").headers["etag"]
    assert httpx.put(f"{base}/1", content=b"x").json() == {"partNumber": 1, "etag": etag}
    assert httpx.put(f"{base}/1", content=b"y").status_code == 409
    httpx.put(f"{base}/2", content=b"z")
    for parts in (
        [],
        [{"partNumber": 1, "etag": "no"}],
        [{"partNumber": 1, "etag": etag}] * 2,
        [{"partNumber": 5, "etag": etag}],
        "no",
    ):
        assert httpx.post(f"{base}/complete", json={"parts": parts}).status_code == 422
    told = {"parts": [{"partNumber": 1, "etag": etag}]}
    done = httpx.post(f"{base}/complete", json=told)
    assert done.status_code == 200
    assert httpx.post(f"{base}/complete", json=told).json() == done.json()


def test_a_place_is_for_one_file_of_one_organisation(market, client, settings):
    asked = {"file_name": "x.png", "content_type": "image/png"}
    headers = {"Authorization": f"Key {market.secret}"}
    base = "https://rest.fal.ai/storage/upload"
    made = httpx.post(f"{base}/initiate", json=asked, headers=headers).json()
    put = made["upload_url"]
    assert httpx.put(put, content=PICTURE, headers=headers).status_code == 200
    assert httpx.put(put, content=PICTURE).status_code == 200, "our answer may have been lost"
    assert httpx.put(put, content=b"another").status_code == 409
    assert File.objects.get().org == market.developer
    other = re.sub(r"files/[0-9a-f-]+/", f"files/{market.key.pk}/", put)
    for wrong in (put[:-3] + "abc", other, put.replace("/content/", "/multipart/") + "/0"):
        assert httpx.put(wrong, content=b"x").status_code in (404, 422)
    assert httpx.post(f"{base}/initiate", json=asked).status_code == 401
    assert File.objects.count() == 1


def test_a_token_to_upload_expires_and_does_nothing_else(market, client, monkeypatch):
    client.upload(b"x", "text/plain")
    token = client._token_manager.get_token()
    headers = {"Authorization": f"{token.token_type} {token.token}"}
    send = "https://v3.fal.media/files/upload"
    assert httpx.post(send, content=b"y", headers=headers).status_code == 200
    assert httpx.post(f"https://fal.run/{market.ref}", json={}, headers=headers).status_code == 401
    assert httpx.get(f"{market.url}/v1/jobs", headers=headers).status_code == 401
    forged = {"Authorization": f"Bearer {token.token[:-2]}xx"}
    assert httpx.post(send, content=b"y", headers=forged).status_code == 401
    assert httpx.post(send, content=b"y").status_code == 401
    monkeypatch.setattr("marketplace.api.fal.tokens.UPLOAD_S", 1)
    client._token_manager._token = client._token_manager._refresh_token()
    token = client._token_manager._token
    time.sleep(2.1)
    late = {"Authorization": f"Bearer {token.token}"}
    assert httpx.post(send, content=b"y", headers=late).status_code == 401
    assert File.objects.count() == 2


def test_a_strangers_file_is_none(market, client, make_client, painter):
    stranger = make_client(market.stranger_secret)
    url = stranger.upload(PICTURE, "image/png")
    with pytest.raises(FalClientHTTPError) as caught:
        client.run(painter, {"prompt": "x", "image": url})
    assert caught.value.message[0]["loc"] == ["body", "image"]
    assert httpx.get(url, headers={"Authorization": f"Key {market.secret}"}).status_code == 404
    assert httpx.get(url).status_code == 401


def test_an_output_becomes_an_input(market, client, painter):
    with working():
        made = client.run(market.ref, {"prompt": "x"})
        client.run(painter, {"prompt": "x", "image": made["images"][0]["url"]})
    first, second = Job.objects.order_by("created_at")
    assert second.input["image"] == str(first.outputs.get().pk)


def test_what_is_no_picture_is_refused(market, client, painter):
    uri = f"data:image/png;base64,{base64.b64encode(b'text').decode()}"
    with pytest.raises(FalClientHTTPError) as caught:
        client.run(painter, {"prompt": "x", "image": uri})
    assert "no PNG, JPEG or WebP" in caught.value.message[0]["msg"]
