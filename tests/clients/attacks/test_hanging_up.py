"""Who hangs up before an answer began has no call that runs on, and pays nothing."""

import json
import socket
import threading
import time
from urllib.parse import urlsplit

import pytest

from marketplace.jobs import services, stream
from marketplace.jobs.models import Job

FAL, PICTURES = "/fal/run/{ref}", "/openai/v1/images/generations"
GIVEN = {"prompt": "a red circle"}


@pytest.fixture
def slow(monkeypatch):
    """Have each submission last until the caller has left, as one may that fetches a picture.

    Returns what is set once one has begun, and what the caller sets when it has left.
    """
    submit, begun, left = services.job_submit, threading.Event(), threading.Event()

    def slowly(**given):
        begun.set()
        assert left.wait(10)
        time.sleep(0.3)  # until the server has seen it
        return submit(**given)

    monkeypatch.setattr(services, "job_submit", slowly)
    return begun, left


def post_and_hang_up(market, slow, path, given):
    begun, left = slow
    body = json.dumps({**GIVEN, **given}).encode()
    host = urlsplit(market.url)
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host.netloc}\r\nAuthorization: Bearer {market.secret}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection((host.hostname, host.port)) as wire:
        wire.sendall(head.encode() + body)
        assert begun.wait(20)
    left.set()


@pytest.mark.parametrize(
    ("path", "given"),
    [
        (FAL, {}),
        (f"{FAL}/stream", {}),
        (PICTURES, {"model": "{ref}"}),
        (PICTURES, {"model": "{ref}", "stream": True}),
    ],
)
def test_while_the_call_is_taken_cancels_it(market, slow, path, given):
    given = {name: market.ref if value == "{ref}" else value for name, value in given.items()}
    post_and_hang_up(market, slow, path.format(ref=market.ref), given)
    end = time.monotonic() + 20
    while not Job.objects.filter(status="cancelled").exists() and time.monotonic() < end:
        time.sleep(0.05)
    assert [(job.status, job.charge_nano) for job in Job.objects.all()] == [("cancelled", 0)]
    assert not any(stream._open.values())
