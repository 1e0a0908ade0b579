"""`videos`: a clip is taken at once, followed by polling, fetched, listed, remixed and deleted."""

import asyncio
import time

import openai
import pytest

from marketplace.jobs import events, services
from marketplace.jobs.models import File, Job
from tests.cast import PIXEL, report_started
from tests.clients.conftest import failing, working
from tests.clients.openai.conftest import film, png, stored

PROMPT = "a lighthouse"


def refused(client, kind, model, **given):
    with pytest.raises(kind) as caught:
        client.videos.create(**{"model": model, "prompt": PROMPT, **given})
    assert (type(caught.value), len(client.sent)) == (kind, 1)
    client.sent.clear()
    return caught.value


def test_create_and_poll(market, client, filmer):
    with working(film):
        made = client.videos.create_and_poll(
            model=filmer, prompt=PROMPT, seconds="4", size="128x64"
        )
    assert (made.status, made.progress, made.object, made.model) == (
        "completed", 100, "video", filmer,
    )  # fmt: skip
    job = Job.objects.get()
    assert (job.input["num_frames"], job.input["fps"]) == (33, 8), "8 n + 1, about 4 seconds"
    assert (job.input["width"], job.input["height"]) == (128, 64)
    assert (made.seconds, made.size, made.prompt) == ("2.125", "128x128", PROMPT), "as it became"
    assert made.charge_nano_usd == job.charge_nano
    assert client.videos.download_content(made.id).read() == PIXEL


def test_it_is_taken_at_once_and_says_when_to_ask_again(market, client, filmer):
    raw = client.videos.with_raw_response.create(model=filmer, prompt=PROMPT)
    made = raw.parse()
    assert (made.status, made.progress, made.seconds, made.size) == (
        "queued", 0, "2.125", "128x128",
    )  # fmt: skip
    assert raw.headers["openai-poll-after-ms"] == "1000"
    assert int(raw.headers["x-mercato-quote-nano-usd"]) > 0
    job = Job.objects.get()
    services.job_started(report_started(job))
    events.emit(job.pk, "progress", {"step": 1, "steps": 4})
    raw = client.videos.with_raw_response.retrieve(made.id)
    assert (raw.parse().status, raw.parse().progress) == ("in_progress", 25)
    assert raw.headers["openai-poll-after-ms"] == "500"
    with pytest.raises(openai.NotFoundError, match="not ready"):
        client.videos.download_content(made.id)


def test_a_picture_to_begin_with_and_extra_fields(market, client, filmer):
    extra = {"num_frames": 17, "fps": 10, "flow_shift": 2.5}
    client.videos.create(model=filmer, prompt=PROMPT, input_reference=png(), extra_body=extra)
    given = Job.objects.get().input
    assert extra.items() <= given.items(), "numbers, though a form holds texts"
    assert stored(given["image"]) == png()


def test_json_is_taken_too(market, client, filmer):
    body = {"model": filmer, "prompt": PROMPT, "seconds": 2}
    assert client.post("/videos", cast_to=object, body=body)["status"] == "queued"
    assert Job.objects.get().input["num_frames"] == 17


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"seconds": "600"}, "seconds"),
        ({"seconds": "long"}, "seconds"),
        ({"seconds": "-1"}, "seconds"),
        ({"size": "9999x9999"}, "size"),
        ({"prompt": ""}, "prompt"),
        ({"input_reference": b"nothing"}, "input_reference"),
        ({"extra_body": {"true_cfg_scale": 2}}, "true_cfg_scale"),
    ],
)
def test_a_bad_input_names_the_field(market, client, filmer, given, param):
    error = refused(client, openai.UnprocessableEntityError, filmer, **given)
    assert (error.param, Job.objects.count(), File.objects.count()) == (param, 0, 0)


def test_other_failures(market, client, make_client, filmer):
    refused(client, openai.NotFoundError, "atelier/nothing")
    assert "images" in refused(client, openai.UnprocessableEntityError, market.ref).message
    refused(make_client("mk_nonsense"), openai.AuthenticationError, filmer)
    error = refused(make_client(market.stranger_secret), openai.APIStatusError, filmer)
    assert error.status_code == 402


def test_a_model_that_fails(market, client, filmer):
    with working(failing()):
        made = client.videos.create_and_poll(model=filmer, prompt=PROMPT)
    assert (made.status, made.error.code) == ("failed", "engine_error")
    assert made.charge_nano_usd == 0
    with pytest.raises(openai.InternalServerError) as caught:
        client.videos.download_content(made.id)
    assert caught.value.code == "engine_error"


def test_lists_go_on_page_by_page(market, client, filmer):
    ids = [client.videos.create(model=filmer, prompt=f"{n}").id for n in range(5)]
    services.job_submit(org=market.developer, ref=market.ref, given={"prompt": "no clip"})
    assert [each.id for each in client.videos.list(limit=2)] == ids[::-1]
    assert [each.id for each in client.videos.list(limit=2, order="asc")] == ids
    page = client.videos.list(limit=2, after=ids[2])
    assert ([each.id for each in page.data], page.has_more) == ([ids[1], ids[0]], False)
    for bad in ({"limit": 0}, {"limit": 101}, {"order": "up"}):
        with pytest.raises(openai.UnprocessableEntityError) as caught:
            client.videos.list(**bad)
        assert caught.value.param == next(iter(bad))


def test_deleting_what_has_ended_deletes_its_file(market, client, filmer):
    with working(film):
        made = client.videos.create_and_poll(model=filmer, prompt=PROMPT)
    gone = client.videos.delete(made.id)
    assert (gone.id, gone.deleted, gone.object) == (made.id, True, "video.deleted")
    assert File.objects.get().deleted_at is not None
    for ask in (client.videos.retrieve, client.videos.download_content, client.videos.delete):
        with pytest.raises(openai.NotFoundError):
            ask(made.id)
    assert client.videos.list().data == []


def test_deleting_what_waits_cancels_it(market, client, filmer):
    made = client.videos.create(model=filmer, prompt=PROMPT)
    assert client.videos.delete(made.id).deleted
    job = Job.objects.get()
    assert (job.status, job.charge_nano, job.input) == ("cancelled", 0, {})


def test_deleting_what_runs_stops_it_first(market, client, filmer):
    made = client.videos.create(model=filmer, prompt=PROMPT)
    job = Job.objects.get()
    services.job_started(report_started(job))
    assert not client.videos.delete(made.id).deleted
    job.refresh_from_db()
    assert job.cancel_requested_at is not None
    assert client.videos.retrieve(made.id).status == "in_progress"


def test_a_remix_is_the_same_with_another_prompt(market, client, filmer):
    first = client.videos.create(model=filmer, prompt=PROMPT, input_reference=png(), seconds="4")
    again = client.videos.remix(first.id, prompt="at night")
    assert again.remixed_from_video_id == first.id
    one, two = Job.objects.order_by("created_at")
    assert two.input == {**one.input, "prompt": "at night"}
    assert two.version == one.version
    client.sent.clear()
    with pytest.raises(openai.UnprocessableEntityError) as caught:
        client.videos.remix(first.id, prompt="")
    assert (caught.value.param, len(client.sent)) == ("prompt", 1)
    with pytest.raises(openai.UnprocessableEntityError) as caught:
        client.videos.remix(first.id, prompt="x", extra_body={"seconds": "9"})
    assert caught.value.param == "seconds"


def test_only_the_video_is_there(market, client, filmer):
    with working(film):
        made = client.videos.create_and_poll(model=filmer, prompt=PROMPT)
    for variant in ("thumbnail", "spritesheet"):
        with pytest.raises(openai.UnprocessableEntityError) as caught:
            client.videos.download_content(made.id, variant=variant)
        assert caught.value.param == "variant"
    for part in ("edits", "extensions", "characters"):
        with pytest.raises(openai.NotFoundError, match="remix"):
            client.post(f"/videos/{part}", cast_to=object, body={})


def test_a_clip_in_one_answer(market, client, filmer):
    body = {"model": filmer, "prompt": PROMPT}
    with working(film):
        answer = client.post("/videos/sync", cast_to=openai.HttpxBinaryResponseContent, body=body)
    assert answer.response.headers["content-type"] == "video/mp4"
    assert int(answer.response.headers["x-mercato-charge-nano-usd"]) > 0
    assert answer.read() == PIXEL
    with working(failing()), pytest.raises(openai.InternalServerError):
        client.post("/videos/sync", cast_to=object, body=body)
    assert Job.objects.count() == 2


def test_the_same_key_makes_one_clip(market, client, filmer):
    header = {"Idempotency-Key": "once"}
    made = [
        client.videos.create(
            model=filmer, prompt=PROMPT, input_reference=png(), extra_headers=header
        )
        for _ in range(2)
    ]
    assert made[0] == made[1]


def test_the_asynchronous_client(market, filmer):
    async def run():
        client = openai.AsyncOpenAI(api_key=market.secret, base_url=f"{market.url}/openai/v1")
        made = await client.videos.create_and_poll(model=filmer, prompt=PROMPT)
        content = await client.videos.download_content(made.id)
        return await content.aread()

    began = time.monotonic()
    with working(film):
        assert asyncio.run(run()) == PIXEL
    assert time.monotonic() - began < 10
