"""`images.generate` holds its answer until the pictures are there, in base64 or by address."""

import asyncio
import base64
from dataclasses import replace
from importlib.metadata import version

import httpx
import openai
import pytest

from marketplace.api.openai import present
from marketplace.jobs import files, services
from marketplace.jobs.models import File, Job
from tests.cast import (
    PIXEL,
    SCHEMA_WITH_FORMAT,
    listed_version,
    report_finished,
    report_started,
)
from tests.clients.conftest import working

PROMPT = "a red circle"


def test_a_picture_in_base64(market, client):
    with working():
        made = client.images.generate(model=market.ref, prompt=PROMPT)
    assert [base64.b64decode(image.b64_json) for image in made.data] == [PIXEL]
    job = Job.objects.get()
    assert (job.door, job.input["prompt"], job.charge_nano) == ("openai", PROMPT, 4_000_000)
    assert made.created == int(job.finished_at.timestamp())
    assert (made.output_format, made.size, made.id) == ("png", "128x128", str(job.pk))
    assert len(client.sent) == 1


def test_several_by_their_addresses(market, client):
    with working():
        made = client.images.generate(
            model=market.ref, prompt=PROMPT, n=3, size="256x512", response_format="url"
        )
    assert [httpx.get(image.url).content for image in made.data] == [PIXEL] * 3
    given = Job.objects.get().input
    assert (given["num_images"], given["width"], given["height"]) == (3, 256, 512)


def test_the_cost_is_in_headers_and_body(market, client):
    with working():
        raw = client.images.with_raw_response.generate(model=market.ref, prompt=PROMPT)
    assert raw.headers["x-mercato-charge-nano-usd"] == "4000000"
    assert raw.headers["x-request-id"]
    assert raw.headers["content-type"] == "application/json"
    assert raw.parse().charge_nano_usd == 4_000_000
    assert (raw.parse().seed, raw.parse().data[0].nsfw) == (7, None)


def test_the_extra_fields_of_other_servers(market, client, painter):
    extra = {"num_inference_steps": 9, "seed": 5, "guidance_scale": 2.5, "width": 64, "height": 96}
    with working():
        client.images.generate(model=painter, prompt=PROMPT, extra_body=extra)
    assert extra.items() <= Job.objects.get().input.items()


def test_hints_that_promise_nothing_are_let_pass(market, client):
    with working():
        client.images.generate(
            model=market.ref,
            prompt=PROMPT,
            n=1,
            size="auto",
            quality="high",
            style="vivid",
            background="auto",
            moderation="low",
            user="u1",
            output_format="png",
            output_compression=100,
        )
    assert "quality" not in Job.objects.get().input


def test_a_version_by_its_number(market, client):
    with working():
        assert client.images.generate(model=f"{market.ref}:1", prompt=PROMPT).data


def test_the_same_key_makes_one_call(market, client):
    header = {"Idempotency-Key": "once"}
    with working():
        made = [
            client.images.generate(model=market.ref, prompt=PROMPT, extra_headers=header)
            for _ in range(2)
        ]
    assert made[0] == made[1]
    assert Job.objects.count() == 1


def test_the_answer_can_be_had_again(market, client):
    with working():
        made = client.images.generate(model=market.ref, prompt=PROMPT)
    for ending, field in (("", "b64_json"), ("/url", "url")):
        again = client.get(f"/images/generations/{made.id}{ending}", cast_to=httpx.Response)
        assert again.json()["data"][0][field]
    assert client.get(f"/images/generations/{made.id}", cast_to=type(made)) == made


def test_a_big_picture_comes_whole(market, client):
    big = PIXEL + bytes(range(256)) * 4096 + b"x"  # several pieces, no multiple of three

    def work(job):
        from marketplace.core.storage import storage

        services.job_started(report_started(job))
        report = report_finished(job)
        place = storage().path(report.outputs[0].key)
        place.write_bytes(big)
        services.job_finished(replace(report, outputs=[replace(report.outputs[0], size=len(big))]))

    with working(work):
        made = client.images.generate(model=market.ref, prompt=PROMPT)
    assert base64.b64decode(made.data[0].b64_json) == big


def test_a_big_picture_goes_through_in_pieces(market):
    files.upload_store(
        org=market.developer, name="big", content_type="image/png", body=b"x" * 5_000_001
    )
    row = File.objects.get()

    async def pieces():
        return [len(piece) async for piece in present.in_base64({"a": 1}, [row, row])]

    sizes = asyncio.run(pieces())
    assert sum(sizes) > 2 * 5_000_001 * 4 / 3
    assert max(sizes) < 400_000, "so much of it is in memory at a time"


def test_another_format_where_the_model_has_it(market, client):
    made = listed_version(
        market.vendor,
        market.licence,
        market.sam,
        name="formats",
        input_schema=SCHEMA_WITH_FORMAT,
    )
    with working():
        told = client.images.generate(
            model=made.model.ref, prompt=PROMPT, output_format="jpeg", response_format="url"
        )
    assert (told.output_format, Job.objects.get().input["output_format"]) == ("jpeg", "jpeg")
    assert httpx.get(told.data[0].url).headers["content-type"] == "image/jpeg"
    with pytest.raises(openai.UnprocessableEntityError) as caught:
        client.images.generate(model=made.model.ref, prompt=PROMPT, output_format="gif")
    assert caught.value.param == "output_format"


async def _several(market):
    client = openai.AsyncOpenAI(api_key=market.secret, base_url=f"{market.url}/openai/v1")
    calls = [client.images.generate(model=market.ref, prompt=PROMPT) for _ in range(3)]
    return await asyncio.gather(*calls)


def test_the_asynchronous_client(market):
    ref = market.ref
    assert ref
    with working():
        made = asyncio.run(_several(market))
    assert len({each.id for each in made}) == 3


def test_the_client_is_the_published_one():
    assert version("openai") == "3.52.0"
