"""A socket that is flooded holds little memory, and keeps nobody else waiting."""

import logging
import time

import httpx
import msgpack
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from marketplace.accounts import services as accounts
from marketplace.api.fal import realtime, tokens
from marketplace.core.clock import now
from marketplace.jobs.models import Job
from tests.clients.conftest import working

GIVEN = {"prompt": "a red circle"}


@pytest.fixture
def open_socket(market):
    def open_socket(query=""):
        url = f"ws{market.url.removeprefix('http')}/fal/run/{market.ref}/realtime{query}"
        headers = {} if "jwt" in query else {"Authorization": f"Key {market.secret}"}
        return connect(url, additional_headers=headers)

    return open_socket


@pytest.fixture
def sockets(monkeypatch):
    """Remember the sockets that are served."""
    made = []
    begin = realtime.Socket.__init__

    def remember(self, *args):
        begin(self, *args)
        made.append(self)

    monkeypatch.setattr(realtime.Socket, "__init__", remember)
    return made


def until(there):
    end = time.monotonic() + 10
    while not there() and time.monotonic() < end:
        time.sleep(0.05)


def test_what_waits_is_bounded_in_bytes(open_socket, sockets, settings):
    settings.REALTIME_MESSAGE_BYTES = 10_000
    with open_socket() as socket:
        socket.send(msgpack.packb(GIVEN))  # waits for a worker that there is not
        until(Job.objects.exists)
        for _ in range(30):
            socket.send(b"\xc0" * 9_000)
        assert socket.ping().wait(10)
        time.sleep(0.3)
        assert 0 < sum(map(len, sockets[0].waiting)) <= 20_000


def test_decoding_keeps_nobody_waiting(market, open_socket):
    many = msgpack.packb([{}] * 2_900_000)
    slowest = 0.0
    with open_socket() as socket:
        for _ in range(3):
            socket.send(many)
        end = time.monotonic() + 3
        while time.monotonic() < end:
            begun = time.monotonic()
            httpx.get(f"{market.url}/fal/elsewhere", timeout=20)
            slowest = max(slowest, time.monotonic() - begun)
    assert slowest < 0.8


@pytest.mark.parametrize(
    "sent",
    [
        b"\x91" * 100_000,
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xc7\x05\x01hello",
        b"\xd6\xff\x00\x00\x00\x00",
        msgpack.packb({"prompt": float("nan")}),
        msgpack.packb({"prompt": "a\x00b"}),
        msgpack.packb({b"prompt": b"\xff"}),
        msgpack.packb({1: 2}, strict_types=True),
        msgpack.packb([1, 2]),
        msgpack.packb(None),
        b"\xa1\xff",
    ],
)
def test_odd_messages_are_told(open_socket, sent):
    with open_socket() as socket:
        socket.send(sent)
        assert "x-fal-error" in socket.recv(timeout=10)
    assert Job.objects.count() == 0


def test_a_token_in_an_address_is_not_logged(market, open_socket, caplog):
    logger = logging.getLogger("uvicorn.error")
    before = logger.level
    token = tokens.run_token(market.key, [], 60)
    try:
        logger.setLevel(logging.INFO)
        with caplog.at_level(logging.INFO), open_socket(f"?fal_jwt_token={token}"):
            time.sleep(0.3)
    finally:
        logger.setLevel(before)
    assert "WebSocket" in caplog.text
    assert token not in caplog.text


def test_a_suspended_organisation_makes_no_more_calls(market, open_socket):
    with working(), open_socket() as socket:
        socket.send(msgpack.packb(GIVEN))
        assert isinstance(socket.recv(timeout=10), bytes)
        market.developer.suspended_at = now()
        market.developer.save()
        socket.send(msgpack.packb(GIVEN))
        assert "suspended" in socket.recv(timeout=10)
    assert Job.objects.count() == 1


def test_a_budget_holds_for_a_key_its_tokens_and_its_sockets(market, open_socket):
    key, _ = accounts.api_key_create(
        org=market.developer, name="small", scopes=["run"], monthly_budget_nano=4_000_000
    )
    with working(), open_socket(f"?fal_jwt_token={tokens.run_token(key, [], 60)}") as socket:
        socket.send(msgpack.packb(GIVEN))
        assert isinstance(socket.recv(timeout=10), bytes)
        socket.send(msgpack.packb(GIVEN))
        assert "budget_exceeded" in socket.recv(timeout=10)
    assert Job.objects.count() == 1


def test_a_token_allows_no_more_than_its_key(market, open_socket):
    key, _ = accounts.api_key_create(
        org=market.developer, name="other", scopes=["run"], allowed_models=["atelier/other"]
    )
    token = tokens.run_token(key, [market.ref], 60)
    with open_socket(f"?fal_jwt_token={token}") as socket:
        assert "model_not_allowed" in socket.recv(timeout=10)
        with pytest.raises(ConnectionClosed):
            socket.recv(timeout=10)
    url = f"{market.url}/fal/run/{market.ref}?fal_jwt_token={token}"
    assert httpx.post(url, json=GIVEN).status_code == 403
    assert Job.objects.count() == 0
