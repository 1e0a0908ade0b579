"""Files come and go by signed URLs only, in the embedded store and in S3."""

import hashlib

import boto3
import pytest
import urllib3
from django.core import signing
from django.test import Client
from moto.server import ThreadedMotoServer

from marketplace.core import storage as storage_module
from marketplace.core.errors import NotFound
from marketplace.core.storage import LocalStorage, S3Storage, read_token

BODY = b"\x89PNG" + bytes(range(256)) * 40


@pytest.fixture
def store(tmp_path, monkeypatch):
    made = LocalStorage(tmp_path, "http://testserver")
    storage_module.storage.cache_clear()
    monkeypatch.setattr("django.conf.settings.MEDIA_DIR", tmp_path)
    yield made
    storage_module.storage.cache_clear()


def put(signed, body=BODY, **headers):
    return Client().put(
        signed.url, body, content_type=headers.pop("type", "image/png"), headers=headers
    )


def test_what_was_put_is_read_back(store):
    answer = put(store.signed_put("a/b.png", "image/png", 100_000, 60))
    assert answer.status_code == 201
    assert answer.json() == {"size": len(BODY), "sha256": hashlib.sha256(BODY).hexdigest()}
    got = Client().get(store.signed_get("a/b.png", "image/png", 60))
    assert b"".join(got.streaming_content) == BODY
    assert got["Content-Type"] == "image/png"
    assert "sandbox" in got["Content-Security-Policy"]
    assert Client().head(store.signed_get("a/b.png", "image/png", 60))["Content-Length"] == str(
        len(BODY)
    )


def test_too_large_is_refused_and_leaves_nothing(store, tmp_path):
    answer = put(store.signed_put("a/b.png", "image/png", 100, 60))
    assert answer.status_code == 422
    assert answer.json()["error"]["code"] == "file_too_large"
    assert store.size("a/b.png") is None
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def test_a_file_is_stored_once(store, tmp_path):
    signed = store.signed_put("a/b.png", "image/png", 100_000, 60)
    assert put(signed).status_code == 201
    assert put(signed).status_code == 201, "the same bytes again: the answer may have been lost"
    other = put(signed, BODY[::-1])
    assert (other.status_code, other.json()["error"]["code"]) == (409, "file_exists")
    assert b"".join(store.read("a/b.png")) == BODY
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["b.png"]


def test_another_content_type_is_refused(store):
    answer = put(store.signed_put("a/b.png", "image/png", 100_000, 60), type="text/html")
    assert answer.status_code == 422
    assert store.size("a/b.png") is None


def test_a_link_for_reading_does_not_write(store):
    put(store.signed_put("a/b.png", "image/png", 100_000, 60))
    url = store.signed_get("a/b.png", "image/png", 60)
    assert Client().put(url, b"evil", content_type="image/png").status_code == 404
    assert store.size("a/b.png") == len(BODY)


def test_a_changed_or_old_link_is_not_found(store):
    url = store.signed_put("a/b.png", "image/png", 100_000, 60).url
    assert Client().put(url[:-1] + "x", BODY, content_type="image/png").status_code == 404
    expired = store.signed_put("a/b.png", "image/png", 100_000, -1).url
    assert Client().put(expired, BODY, content_type="image/png").status_code == 404


def test_a_token_signed_for_something_else_is_not_a_link():
    with pytest.raises(NotFound):
        read_token(signing.dumps({"op": "get", "key": "x", "type": "y", "ttl": 60}), "get")


def test_no_key_leaves_the_directory(store):
    with pytest.raises(NotFound):
        store.path("../outside.png")


@pytest.fixture
def s3(settings, monkeypatch):
    """A real S3 server process (moto), spoken to over HTTP with the real boto3."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    settings.S3_ENDPOINT_URL = settings.S3_PUBLIC_ENDPOINT_URL = f"http://{host}:{port}"
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    boto3.client(
        "s3", endpoint_url=settings.S3_ENDPOINT_URL, region_name="us-east-1"
    ).create_bucket(Bucket="media")
    yield S3Storage("media")
    server.stop()


def test_s3_takes_and_gives_by_presigned_url(s3):
    s3.ready()
    signed = s3.signed_put("a/b.png", "image/png", 100_000, 60)
    http = urllib3.PoolManager()
    assert http.request("PUT", signed.url, body=BODY, headers=signed.headers).status == 200
    assert s3.size("a/b.png") == len(BODY)
    got = http.request("GET", s3.signed_get("a/b.png", "image/png", 60))
    assert (got.data, got.headers["Content-Type"]) == (BODY, "image/png")
    s3.delete("a/b.png")
    assert s3.size("a/b.png") is None


def test_s3_copies_joins_and_reads_parts(s3):
    part = b"x" * 5 * 2**20  # the least that S3 joins
    s3.put("parts/0", part, "application/octet-stream")
    s3.put("parts/1", b"end", "application/octet-stream")
    s3.join(["parts/0", "parts/1"], "whole")
    assert s3.size("whole") == len(part) + 3
    assert b"".join(s3.read("whole", len(part) - 1)) == b"xend"
    assert b"".join(s3.read("whole", 1, 2)) == b"xx"
    s3.join(["parts/1"], "one")
    s3.copy("one", "copy", "image/png")
    assert b"".join(s3.read("copy")) == b"end"
    with pytest.raises(NotFound):
        s3.copy("absent", "copy", "image/png")
    with pytest.raises(NotFound):
        b"".join(s3.read("absent"))


def test_s3_without_its_bucket_is_not_ready(s3):
    with pytest.raises(OSError, match="absent"):
        S3Storage("absent").ready()


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("bytes=0-3", 0, 3),
        ("bytes=4-", 4, None),
        ("bytes=-5", -5, None),
        ("bytes=2-99999999", 2, None),
    ],
)
def test_a_player_gets_the_part_it_asks_for(store, asked, first, last):
    put(store.signed_put("a/b.mp4", "video/mp4", 100_000, 60), type="video/mp4")
    url = store.signed_get("a/b.mp4", "video/mp4", 60)
    got = Client().get(url, headers={"Range": asked})
    start = first % len(BODY)
    end = len(BODY) - 1 if last is None else last
    assert got.status_code == 206
    assert b"".join(got.streaming_content) == BODY[start : end + 1]
    assert got["Content-Range"] == f"bytes {start}-{end}/{len(BODY)}"
    assert got["Content-Length"] == str(end + 1 - start)


@pytest.mark.parametrize(
    "asked", ["bytes=-", "bytes=3-1", "bytes=0-1,4-5", "lines=1-2", "bytes=x-"]
)
def test_what_asks_for_no_one_part_gets_the_whole(store, asked):
    put(store.signed_put("a/b.png", "image/png", 100_000, 60))
    got = Client().get(store.signed_get("a/b.png", "image/png", 60), headers={"Range": asked})
    assert got.status_code == 200
    assert got["Accept-Ranges"] == "bytes"
    assert b"".join(got.streaming_content) == BODY


def test_a_part_beyond_the_end_is_refused(store):
    put(store.signed_put("a/b.png", "image/png", 100_000, 60))
    url = store.signed_get("a/b.png", "image/png", 60)
    assert Client().get(url, headers={"Range": f"bytes={len(BODY)}-"}).status_code == 416
    assert Client().get(url, headers={"Range": "bytes=-0"}).status_code == 416
