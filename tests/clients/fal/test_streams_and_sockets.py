"""Streams and realtime sockets of the published client: what they tell, and who may open them."""

import asyncio
import json
import time

import fal_client
import httpx
import pytest
from fal_client.client import RealtimeError
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect as open_socket

from marketplace.accounts import services as accounts
from marketplace.api.fal import realtime
from marketplace.core import valkey
from marketplace.jobs import events
from marketplace.jobs.models import Job
from tests.cast import PIXEL
from tests.clients.conftest import failing, succeed, working

GIVEN = {"prompt": "a red circle"}


def later(job):
    time.sleep(0.5)
    succeed(job)


def test_a_stream_tells_steps_and_the_result(market, client):
    with working(later):
        *steps, made = client.stream(market.ref, GIVEN)
    assert steps[-1] == {"type": "progress", "step": 4, "steps": 4}
    assert httpx.get(made["images"][0]["url"]).content == PIXEL
    assert made["seed"] == 7


def test_a_stream_of_a_fault_ends_with_it(market, client):
    with working(failing()):
        told = list(client.stream(market.ref, GIVEN))
    assert told[-1]["detail"] == "The model failed on this input."
    assert told[-1]["error_type"] == "engine_error"


def test_too_many_streams_leave_no_call_behind(market, client, settings):
    settings.STREAMS_PER_ORG = 0
    answer = httpx.post(
        f"https://fal.run/{market.ref}/stream",
        json=GIVEN,
        headers={"Authorization": f"Key {market.secret}"},
    )
    assert answer.status_code == 503
    assert [(job.status, job.charge_nano) for job in Job.objects.all()] == [("cancelled", 0)]


@pytest.mark.parametrize("use_jwt", [True, False])
def test_each_message_is_a_call(market, client, use_jwt):
    with working(), client.realtime(market.ref, use_jwt=use_jwt) as socket:
        for count in (1, 2):
            socket.send({**GIVEN, "num_images": count})
            made = socket.recv()
            assert len(made["images"]) == count
    assert httpx.get(made["images"][0]["url"]).content == PIXEL
    jobs = Job.objects.order_by("created_at")
    assert [job.charge_nano for job in jobs] == [4_000_000, 8_000_000]
    assert {job.api_key_id for job in jobs} == {market.key.pk}


def test_a_version_and_a_buffer(market, client):
    with working(), client.realtime(f"{market.ref}/v1", max_buffering=2) as socket:
        socket.send(GIVEN)
        assert len(socket.recv()["images"]) == 1


def test_the_async_client_too(market):
    ref = market.ref  # read from the database, which no event loop may

    async def talk():
        client = fal_client.AsyncClient(key=market.secret)
        async with client.realtime(ref) as socket:
            await socket.send(GIVEN)
            return await socket.recv()

    with working():
        assert asyncio.run(talk())["seed"] == 7


def test_errors_of_a_message_leave_the_socket_open(market, client):
    with working(), client.realtime(market.ref) as socket:
        socket.send({**GIVEN, "num_images": 99})
        with pytest.raises(RealtimeError, match="invalid_input: num_images"):
            socket.recv()
        socket.send(GIVEN)
        assert socket.recv()["seed"] == 7
    assert Job.objects.count() == 1


def test_a_fault_of_the_model(market, client):
    with working(failing()), client.realtime(market.ref) as socket:
        socket.send(GIVEN)
        with pytest.raises(RealtimeError, match="engine_error: The model failed"):
            socket.recv()


@pytest.mark.parametrize("sent", [b"\xc1", b"\x93\x01\x02\x03", b"", b'{"prompt": "x"}'])
def test_what_is_no_input_is_an_error(market, client, sent):
    with client.realtime(market.ref, encode_message=lambda given: given) as socket:
        socket.send(sent)
        with pytest.raises(RealtimeError, match="invalid_"):
            socket.recv()
    assert Job.objects.count() == 0


def test_a_message_too_large_closes(market, client, settings):
    settings.REALTIME_MESSAGE_BYTES = 1000
    with client.realtime(market.ref) as socket:
        socket.send({"prompt": "x" * 1000})
        with pytest.raises(RealtimeError, match="message_too_large"):
            socket.recv()
        with pytest.raises(RealtimeError, match="1009"):
            socket.recv()


def test_messages_that_wait_are_bounded(market, client, settings):
    settings.REALTIME_MESSAGE_BYTES = 200
    with client.realtime(market.ref) as socket:
        for number in range(6):
            socket.send({"prompt": f"{number}" * 150})
            time.sleep(0.2)
        with working():
            made = [socket.recv()["prompt"][0] for _ in range(3)]
    assert made == ["0", "4", "5"], "the one that ran, and the newest"


def test_silence_closes(market, client, settings):
    settings.REALTIME_IDLE_S = 0.5
    with client.realtime(market.ref) as socket:
        with pytest.raises(RealtimeError, match="TIMEOUT"):
            socket.recv()
        assert socket.recv() is None


def test_so_many_sockets_for_an_organisation(market, client, settings):
    settings.REALTIME_PER_ORG = 1
    with (
        client.realtime(market.ref),
        client.realtime(market.ref) as second,
        pytest.raises(RealtimeError, match="too_many_sockets"),
    ):
        second.recv()
    end = time.monotonic() + 10
    while realtime._open and time.monotonic() < end:
        time.sleep(0.05)
    assert not realtime._open


def refused(url, **headers):
    with open_socket(url, additional_headers=headers) as socket:
        told = socket.recv()
        with pytest.raises(Exception, match="1008"):
            socket.recv()
    return told


def test_who_may_not_open(market, client, make_client):
    url = f"wss://fal.run/{market.ref}/realtime"
    assert "not_authenticated" in refused(url)
    assert "malformed_key" in refused(url, Authorization="Key mk_nonsense")
    assert "not valid, or no longer" in refused(f"{url}?fal_jwt_token=nonsense")
    token = client._get_realtime_token(market.ref, token_expiration=1)
    time.sleep(2.1)
    assert "not valid, or no longer" in refused(f"{url}?fal_jwt_token={token}")
    token = client._get_realtime_token("atelier/other")
    assert "for other models" in refused(f"{url}?fal_jwt_token={token}")
    key = f"Key {market.secret}"
    gone = refused("wss://fal.run/atelier/nothing/realtime", Authorization=key)
    assert "model_not_found" in gone
    _, reader = accounts.api_key_create(org=market.developer, name="reader", scopes=["read"])
    assert "scope_missing" in refused(url, Authorization=f"Key {reader}")
    with pytest.raises(InvalidStatus, match="403"):
        open_socket(f"wss://fal.run/{market.ref}/elsewhere")
    assert Job.objects.count() == 0


def test_a_revoked_key_ends_its_sockets(market, client):
    with client.realtime(market.ref) as socket:
        accounts.api_key_revoke(org=market.developer, key_id=market.key.pk)
        socket.send(GIVEN)
        with pytest.raises(RealtimeError, match="revoked_key"):
            socket.recv()


def test_without_credit(market, make_client):
    with make_client(market.stranger_secret).realtime(market.ref) as socket:
        socket.send(GIVEN)
        with pytest.raises(RealtimeError, match="insufficient_funds"):
            socket.recv()


def test_a_token_calls_and_does_nothing_else(market, client):
    token = client._get_realtime_token(market.ref)
    with working():
        made = httpx.post(f"https://fal.run/{market.ref}?fal_jwt_token={token}", json=GIVEN)
    assert made.status_code == 200
    asked = f"https://queue.fal.run/{market.ref}/requests/{Job.objects.get().pk}"
    assert httpx.get(f"{asked}?fal_jwt_token={token}").status_code == 401
    assert httpx.get(asked, headers={"Authorization": f"Bearer {token}"}).status_code == 401


def test_a_client_that_leaves_cancels_its_call(market, client):
    with client.realtime(market.ref) as socket:
        socket.send(GIVEN)
        end = time.monotonic() + 10
        while not Job.objects.exists() and time.monotonic() < end:
            time.sleep(0.05)
    assert quiet(20), "somebody still waits for the job's events"
    while not Job.objects.get().is_ended and time.monotonic() < end:
        time.sleep(0.05)  # it may still be taken, and is cancelled then
    job = Job.objects.get()
    assert (job.status, job.charge_nano) == ("cancelled", 0)


def test_who_hangs_up_cancels_and_may_call_again(market, client):
    with working(lambda job: None), pytest.raises(httpx.ReadTimeout):
        httpx.post(
            f"https://fal.run/{market.ref}",
            json=GIVEN,
            headers={"Authorization": f"Key {market.secret}"},
            timeout=2,
        )
    assert quiet(20)
    assert [job.status for job in Job.objects.all()] == ["cancelled"]


def test_who_leaves_a_stream_cancels_the_call(market):
    call = httpx.stream(
        "POST",
        f"https://fal.run/{market.ref}/stream",
        json=GIVEN,
        headers={"Authorization": f"Key {market.secret}"},
        timeout=2,
    )
    with pytest.raises(httpx.ReadTimeout), call as answer:
        for _ in answer.iter_lines():
            pass
    assert quiet(20)
    assert [job.status for job in Job.objects.all()] == ["cancelled"]


def quiet(seconds):
    """Tell whether there comes a second in which nobody follows a job."""
    end, since = time.monotonic() + seconds, None
    while time.monotonic() < end:
        if any(each["cmd"] == "xread" for each in valkey.client().client_list()):
            since = None
        elif since is None:
            since = time.monotonic()
        elif time.monotonic() - since > 1:
            return True
        time.sleep(0.01)
    return False


@pytest.mark.parametrize("logs", ["0", "1"])
def test_a_status_stream_tells_that_the_request_runs(market, client, logs):
    request_id = client.submit(market.ref, GIVEN).request_id

    def work(job):
        events.emit(job.pk, "started", {"attempt": 1})  # as a worker tells it
        later(job)

    here = f"https://queue.fal.run/{market.ref}/requests/{request_id}/status/stream"
    key = {"Authorization": f"Key {market.secret}"}
    with httpx.stream("GET", here, params={"logs": logs}, headers=key, timeout=30) as answer:
        sent = (line for line in answer.iter_lines() if line.startswith("data: "))
        shown = (json.loads(line.removeprefix("data: ")) for line in sent)
        told = [next(shown)]
        with working(work):
            told += shown
    states = list(dict.fromkeys(each["status"] for each in told))
    assert states == ["IN_QUEUE", "IN_PROGRESS", "COMPLETED"]
    first = next(each for each in told if each["status"] == "IN_PROGRESS")
    assert (first["request_id"], first["logs"]) == (request_id, [])
    assert first["response_url"].endswith(request_id)
