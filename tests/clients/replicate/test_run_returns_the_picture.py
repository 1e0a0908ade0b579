"""`replicate.run` of the published client returns what the model made."""

import asyncio

import httpx
import pytest
import replicate
from replicate.exceptions import ModelError, ReplicateError
from replicate.helpers import FileOutput

from marketplace.jobs.models import Job
from tests.cast import PIXEL
from tests.clients.conftest import failing, working


def test_a_model_by_name(market, client):
    with working():
        (picture,) = client.run(market.ref, input={"prompt": "a red circle"})
    assert httpx.get(picture).content == PIXEL
    job = Job.objects.get()
    assert (job.status, job.charge_nano, job.door) == ("succeeded", 4_000_000, "replicate")
    assert job.api_key_id == market.key.pk


def test_a_version_by_its_id(market, client):
    with working():
        made = client.run(
            f"{market.ref}:{market.version.pk}", input={"prompt": "a red circle", "num_images": 2}
        )
    assert len(made) == 2
    assert Job.objects.get().version_id == market.version.pk


def test_a_version_by_its_number(market, client):
    given = {"prompt": "a red circle"}
    with working():
        made = client.predictions.create(version=f"{market.ref}:1", input=given, wait=20)
    assert (made.status, made.version) == ("succeeded", str(market.version.pk))
    with pytest.raises(ReplicateError) as refused:  # the client sends "1" alone
        client.run(f"{market.ref}:1", input=given)
    assert refused.value.status == 404
    assert "vendor/name:1" in refused.value.detail
    with pytest.raises(ReplicateError) as refused:
        client.predictions.create(version=f"{market.ref}:9", input=given)
    assert refused.value.status == 404
    assert Job.objects.count() == 1


@pytest.fixture
def tls_client(tls_market, live_tls, monkeypatch):
    """Bob's client of a market with TLS, whose authority it trusts as any program would."""
    monkeypatch.setenv("SSL_CERT_FILE", live_tls.ca)
    made = replicate.Client(api_token=tls_market.secret, base_url=f"{tls_market.url}/replicate")
    made.poll_interval = 0.05
    return made


def test_over_tls_an_output_is_a_file(tls_market, tls_client):
    with working():
        (picture,) = tls_client.run(tls_market.ref, input={"prompt": "a red circle"})
    assert isinstance(picture, FileOutput)
    assert picture.url.startswith(f"{tls_market.url}/files/")
    assert picture.read() == PIXEL
    assert b"".join(picture) == PIXEL


def test_the_asynchronous_client_runs_streams_and_reads(tls_market, tls_client):
    given, ref = {"prompt": "a red circle", "num_images": 2}, tls_market.ref

    async def all_of_it():
        made = await tls_client.async_run(ref, input=given)
        pictures = [await each.aread() for each in made]
        told = await tls_client.async_stream(ref, input=given)
        events = [event.event.value async for event in told]
        prediction = await tls_client.models.predictions.async_create(ref, input=given, wait=20)
        await prediction.async_reload()
        listed = await tls_client.predictions.async_list()
        return pictures, events, prediction, listed

    with working():
        pictures, events, prediction, listed = asyncio.run(all_of_it())
    assert pictures == [PIXEL, PIXEL]
    assert events[-3:] == ["output", "output", "done"]
    assert prediction.status == "succeeded"
    assert len(listed.results) == 3


def test_the_asynchronous_client_raises_what_the_other_does(market, client):
    ref = market.ref

    async def refused():
        with pytest.raises(ReplicateError) as error:
            await client.async_run(ref, input={"prompt": ""})
        made = await client.models.predictions.async_create(ref, input={"prompt": "x"})
        await made.async_cancel()
        with pytest.raises(ModelError):
            await client.async_run(ref, input={"prompt": "it fails"})
        return error.value, made

    def deal(job):
        if job.input["prompt"] == "it fails":
            failing()(job)

    with working(deal):
        error, made = asyncio.run(refused())
    assert (error.status, made.status) == (422, "canceled")
