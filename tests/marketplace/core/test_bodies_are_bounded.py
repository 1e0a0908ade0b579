"""Under ASGI, no body is spooled that will be refused, and files are streamed."""

import asyncio
import json

import pytest

from marketplace.asgi import application
from marketplace.core import storage as storage_module
from marketplace.core.storage import storage


@pytest.fixture(autouse=True)
def _store(tmp_path, settings):
    settings.MEDIA_DIR = tmp_path
    settings.FILE_MAX_BYTES = 8_000_000
    storage_module.storage.cache_clear()
    yield
    storage_module.storage.cache_clear()


def ask(method, path, chunks=(b"",), declared=None):
    """Return (status, body parts, how many chunks were taken)."""
    headers = [(b"host", b"127.0.0.1"), (b"content-type", b"image/png")]
    if declared is not None:
        headers.append((b"content-length", str(declared).encode()))
    scope = {
        "type": "http", "method": method, "path": path, "query_string": b"",
        "headers": headers, "client": ("127.0.0.1", 9), "server": ("127.0.0.1", 80),
    }  # fmt: skip
    sent, taken, left = [], [], list(chunks)

    async def receive():
        if not left:
            await asyncio.sleep(30)
        taken.append(left.pop(0))
        return {"type": "http.request", "body": taken[-1], "more_body": bool(left)}

    async def send(message):
        sent.append(message)

    asyncio.run(application(scope, receive, send))
    return sent[0]["status"], [m["body"] for m in sent[1:] if m.get("body")], len(taken)


def path_of(url):
    return "/files/" + url.rpartition("/")[2]


def put_path(ttl=60):
    return path_of(storage().signed_put("a/b.png", "image/png", 8_000_000, ttl).url)


@pytest.mark.parametrize("path", ["/healthz", "/v1/jobs"])
def test_a_large_body_is_refused_before_it_is_read(path):
    status, body, taken = ask("POST", path, [b"x"], declared=5_000_000)
    assert (status, taken) == (413, 0)
    assert json.loads(body[0])["error"]["code"] == "body_too_large"


def test_a_body_that_lies_about_its_length_is_cut(tmp_path):
    status, _, taken = ask("PUT", put_path(), [b"x" * 1_000_000] * 20)
    assert (status, taken) == (413, 9)
    assert storage().size("a/b.png") is None


def test_a_file_may_be_larger_than_other_bodies():
    assert ask("PUT", put_path(), [b"x" * 1_000_000] * 7)[0] == 201


@pytest.mark.parametrize("path", [put_path(-1), "/files/forged"])
def test_a_bad_link_is_refused_before_the_body_is_read(path):
    status, _, taken = ask("PUT", path, [b"x"])
    assert (status, taken) == (404, 0)


def test_a_file_is_streamed_and_not_collected_first(recwarn):
    storage().write("a/b.png", [b"x" * 1_000_000], 8_000_000)
    url = storage().signed_get("a/b.png", "image/png", 60)
    status, parts, _ = ask("GET", path_of(url))
    assert (status, len(b"".join(parts))) == (200, 1_000_000)
    collected = [w for w in recwarn if "synchronous iterators" in str(w.message)]
    assert collected == [], "Django warns when it collects a plain iterator"
