"""What headers ask and say; versions, GET, the status as a stream, and the async client."""

import asyncio
import json

import fal_client
import httpx
import pytest

from marketplace.jobs import services
from marketplace.jobs.models import Job
from tests.cast import listed_version, report_finished, report_started
from tests.clients.conftest import succeed, working

GIVEN = {"prompt": "a red circle"}


def ask(market, method, url, **more):
    headers = {"Authorization": f"Key {market.secret}", **more.pop("headers", {})}
    return httpx.request(method, url, headers=headers, timeout=30, **more)


def test_every_answer_names_the_request_and_its_cost(market):
    with working():
        made = ask(market, "POST", f"https://fal.run/{market.ref}", json=GIVEN)
    job = Job.objects.get()
    here = f"https://queue.fal.run/{market.ref}/requests/{job.pk}"
    for answer in (made, ask(market, "GET", here), ask(market, "GET", f"{here}/status")):
        assert answer.status_code == 200
        assert answer.headers["x-fal-request-id"] == str(job.pk)
        assert answer.headers["x-fal-billable-units"] == "1"
        assert answer.headers["x-mercato-quote-nano-usd"] == "4000000"
        assert answer.headers["x-mercato-charge-nano-usd"] == "4000000"
    queued = ask(market, "POST", f"https://queue.fal.run/{market.ref}", json=GIVEN)
    assert queued.headers["x-mercato-quote-nano-usd"] == "4000000"
    assert "x-fal-billable-units" not in queued.headers
    assert queued.json()["status"] == "IN_QUEUE"
    waiting = ask(market, "GET", queued.json()["status_url"])
    assert (waiting.status_code, waiting.json()["queue_position"]) == (202, 0)


def test_priority_start_and_lifecycle(market, client):
    kept = {"X-Fal-Object-Lifecycle-Preference": '{"expiration_duration_seconds": 3600}'}
    client.submit(market.ref, GIVEN, priority="low", start_timeout=30, headers=kept)
    job = Job.objects.get()
    assert (job.priority, job.keep_s) == (-1, 3600)
    assert (job.start_by - job.created_at).total_seconds() == 30
    client.submit(market.ref, GIVEN, priority="normal", hint="a")
    assert Job.objects.latest("created_at").priority == 0


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("X-Fal-Object-Lifecycle-Preference", '{"expiration_duration_seconds": 10}'),
        ("X-Fal-Request-Timeout", "-1"),
        ("X-Fal-Queue-Priority", "high"),
    ],
)
def test_a_bad_option_is_named_as_it_was_sent(market, client, header, value):
    with pytest.raises(fal_client.FalClientHTTPError) as caught:
        client.submit(market.ref, GIVEN, headers={header: value})
    told = caught.value.response.json()
    assert caught.value.status_code == 422
    assert [problem["loc"] for problem in told["detail"]] == [["body", header]]
    assert told["message"].startswith(header)
    assert Job.objects.count() == 0


def test_a_version_and_its_requests(market, client):
    with working():
        handle = client.submit(f"{market.ref}/v1", GIVEN)
        assert handle.get()["seed"] == 7
        assert client.run(f"{market.ref}:1", GIVEN)["seed"] == 7
    assert client.result(f"{market.ref}/v1", handle.request_id)["seed"] == 7
    assert client.result(f"{market.ref}:1", handle.request_id)["seed"] == 7


def test_a_request_is_found_at_its_own_model_only(market, client):
    listed_version(market.vendor, market.licence, market.sam, name="other")
    handle = client.submit(market.ref, GIVEN)
    for path in ("", "/status", "/status/stream"):
        url = f"https://queue.fal.run/atelier/other/requests/{handle.request_id}{path}"
        assert ask(market, "GET", url).status_code == 404
    url = f"https://queue.fal.run/atelier/other/requests/{handle.request_id}/cancel"
    assert ask(market, "PUT", url).status_code == 404
    assert Job.objects.get().status == "queued"


def test_get_takes_its_input_from_the_address(market):
    with working():
        query = {"prompt": "7", "num_images": "2"}
        made = ask(market, "GET", f"https://fal.run/{market.ref}", params=query)
    assert len(made.json()["images"]) == 2
    assert Job.objects.get().input["prompt"] == "7"
    query = {"prompt": "x", "num_images": "two"}
    wrong = ask(market, "GET", f"https://fal.run/{market.ref}", params=query)
    assert wrong.json()["detail"][0]["loc"] == ["body", "num_images"]


def test_a_clip(market, client):
    clip = listed_version(
        market.vendor, market.licence, market.sam, name="clip", family="wan", task="text-to-video"
    )

    def make(job):
        services.job_started(report_started(job))
        services.job_finished(report_finished(job, seconds=2.0))

    with working(make):
        made = client.run(clip.model.ref, GIVEN)
    assert made["video"]["content_type"] == "video/mp4"
    assert made["video"]["duration"] == 2.0
    assert made["video"]["file_name"].endswith(".mp4")
    assert "images" not in made


def events(market, handle, logs):
    url = f"{handle.status_url}/stream?logs={logs}"
    headers = {"Authorization": f"Key {market.secret}"}
    with httpx.stream("GET", url, headers=headers, timeout=30) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in answer.iter_lines() if line.startswith("data: ")]
    return [json.loads(line.removeprefix("data: ")) for line in lines]


def later(job):
    import time

    time.sleep(1)
    succeed(job)


def test_the_status_as_a_stream(market, client):
    handle = client.submit(market.ref, GIVEN)
    with working(later):
        told = events(market, handle, 1)
    assert (told[0]["status"], told[-1]["status"]) == ("IN_QUEUE", "COMPLETED")
    lines = [line["message"] for each in told for line in each["logs"]]
    assert lines == ["step 2 of 4", "step 4 of 4"], "each once"
    (late,) = events(market, handle, 1)
    assert [line["message"] for line in late["logs"]] == lines
    assert events(market, handle, 0)[-1]["logs"] == []


def test_the_async_client(market):
    ref, key = market.ref, market.secret

    async def call():
        client = fal_client.AsyncClient(key=key)
        ran = await client.run(ref, GIVEN)
        handle = await client.submit(ref, GIVEN)
        got = await handle.get()
        seen = []
        followed = await client.subscribe(ref, GIVEN, on_queue_update=seen.append)
        streamed = [event async for event in client.stream(ref, GIVEN)]
        url = await client.upload(b"x", "text/plain")
        with pytest.raises(fal_client.client.FalClientHTTPError):
            await client.run(ref, {})
        last = await client.submit(ref, GIVEN)
        return [ran, got, followed, streamed[-1]], seen, url, last.request_id

    with working():
        made, seen, url, _ = asyncio.run(call())
    assert [each["seed"] for each in made] == [7, 7, 7, 7]
    assert isinstance(seen[-1], fal_client.Completed)
    assert url.startswith(f"{market.url}/fal/cdn/files/")
