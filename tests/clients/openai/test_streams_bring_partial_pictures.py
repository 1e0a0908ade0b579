"""`stream=True`: partial pictures from the worker's previews, then each picture as it is."""

import base64
import json
import time

import openai
import pytest

from inference import protocol
from marketplace.core import valkey
from marketplace.jobs import events, services
from marketplace.jobs.models import Job
from tests.cast import PIXEL, report_finished, report_started
from tests.clients.conftest import failing, working
from tests.clients.openai.conftest import png

PROMPT = "a red circle"
WEBP = base64.b64encode(b"RIFF....WEBP a small one").decode()


def draw(job):
    """Do what a worker does for somebody who watches: a preview after each step."""
    watched = protocol.watched_key(str(job.pk))
    end = time.monotonic() + 5
    while not valkey.client().exists(watched) and time.monotonic() < end:
        time.sleep(0.02)
    services.job_started(report_started(job))
    for step in range(1, 5):
        told = {"step": step, "steps": 4}
        shown = told | {"type": protocol.PREVIEW_TYPE, "data": WEBP}
        valkey.client().set(protocol.preview_key(str(job.pk)), json.dumps(shown), ex=60)
        events.emit(job.pk, "preview", told)
    services.job_finished(report_finished(job, count=job.input["num_images"]))


def told(stream):
    return list(stream)


def test_partial_pictures_then_the_picture(market, client):
    with working(draw):
        seen = told(
            client.images.generate(model=market.ref, prompt=PROMPT, stream=True, partial_images=2)
        )
    assert [each.type for each in seen] == [
        *["image_generation.partial_image"] * 2, "image_generation.completed",
    ]  # fmt: skip
    assert [each.partial_image_index for each in seen[:2]] == [0, 1]
    assert {(each.b64_json, each.output_format) for each in seen[:2]} == {(WEBP, "webp")}
    assert base64.b64decode(seen[2].b64_json) == PIXEL
    assert (seen[2].size, seen[2].output_format) == ("128x128", "png")
    assert seen[2].charge_nano_usd == 4_000_000


def test_without_partial_pictures_the_worker_makes_none(market, client):
    def look(job):
        services.job_started(report_started(job))
        time.sleep(0.3)
        assert not valkey.client().exists(protocol.watched_key(str(job.pk)))
        services.job_finished(report_finished(job, count=2))

    with working(look):
        seen = told(client.images.generate(model=market.ref, prompt=PROMPT, stream=True, n=2))
    assert [each.type for each in seen] == ["image_generation.completed"] * 2


def test_an_edit_has_events_of_its_own(market, client, painter):
    with working(draw):
        made = client.images.edit(
            model=painter, prompt=PROMPT, image=png(), stream=True, partial_images=1
        )
        seen = told(made)
    assert [each.type for each in seen] == ["image_edit.partial_image", "image_edit.completed"]


def test_a_fault_ends_the_stream_with_the_clients_error(market, client):
    with working(failing()), pytest.raises(openai.APIError) as caught:
        told(client.images.generate(model=market.ref, prompt=PROMPT, stream=True))
    assert caught.value.code == "engine_error"
    assert (Job.objects.get().charge_nano, len(client.sent)) == (0, 1)


def test_who_leaves_a_stream_cancels_the_call(market, client):
    stream = client.images.generate(model=market.ref, prompt=PROMPT, stream=True)
    stream.close()
    end = time.monotonic() + 10
    while not (job := Job.objects.get()).is_ended and time.monotonic() < end:
        time.sleep(0.05)
    assert (job.status, job.charge_nano) == ("cancelled", 0)


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"partial_images": 4}, "partial_images"),
        ({"partial_images": "many"}, "partial_images"),
        ({"stream": "perhaps"}, "stream"),
        ({"stream": True, "response_format": "url"}, "response_format"),
    ],
)
def test_bad_wishes_are_named(market, client, given, param):
    with pytest.raises(openai.UnprocessableEntityError) as caught:
        client.images.generate(model=market.ref, prompt=PROMPT, extra_body=given)
    assert (caught.value.param, Job.objects.count()) == (param, 0)


def test_too_many_streams_leave_no_call_behind(market, client, settings):
    settings.STREAMS_PER_ORG = 0
    with pytest.raises(openai.InternalServerError) as caught:
        client.with_options(max_retries=0).images.generate(
            model=market.ref, prompt=PROMPT, stream=True
        )
    assert caught.value.status_code == 503
    assert Job.objects.get().status == "cancelled"


def test_one_stream_too_many_takes_nothing_from_who_waits_for_the_same(market, client, settings):
    once = {"model": market.ref, "prompt": PROMPT, "stream": True}
    once["extra_headers"] = {"Idempotency-Key": "once"}
    settings.STREAMS_PER_ORG = 1
    waiting = client.images.generate(**once)
    with pytest.raises(openai.InternalServerError) as caught:
        client.with_options(max_retries=0).images.generate(**once)
    assert caught.value.status_code == 503
    with working(draw):
        assert [each.type for each in waiting] == ["image_generation.completed"]
    assert Job.objects.get().status == "succeeded"
