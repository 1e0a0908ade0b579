"""`run`, `submit`, `subscribe` of the published client return what the model made."""

from importlib.metadata import version

import fal_client
import httpx

from marketplace.jobs.models import Job
from tests.cast import PIXEL
from tests.clients.conftest import working

GIVEN = {"prompt": "a red circle"}


def test_the_client_is_the_published_one():
    assert version("fal-client") == "1.0.3"


def assert_made(made, count=1):
    assert len(made["images"]) == count
    first = made["images"][0]
    assert httpx.get(first["url"]).content == PIXEL
    assert (first["width"], first["height"]) == (128, 128)
    assert (first["content_type"], first["file_size"]) == ("image/png", len(PIXEL))
    assert first["file_name"].endswith(".png")
    assert (made["seed"], made["prompt"]) == (7, "a red circle")


def test_run(market, client):
    with working():
        made = client.run(market.ref, GIVEN)
    assert_made(made)
    job = Job.objects.get()
    assert (job.status, job.charge_nano, job.door) == ("succeeded", 4_000_000, "fal")
    assert job.api_key_id == market.key.pk


def test_submit_status_and_result(market, client):
    handle = client.submit(market.ref, {**GIVEN, "num_images": 2})
    status = handle.status(with_logs=True)
    assert isinstance(status, fal_client.Queued)
    assert status.position == 0
    with working():
        assert_made(handle.get(), 2)
    done = client.status(market.ref, handle.request_id, with_logs=True)
    assert isinstance(done, fal_client.Completed)
    assert done.error is None
    assert done.metrics["inference_time"] >= 0
    assert [line["message"] for line in done.logs] == ["step 2 of 4", "step 4 of 4"]
    assert set(done.logs[0]) == {"timestamp", "message", "level", "source"}
    assert_made(client.result(market.ref, handle.request_id), 2)


def test_subscribe_tells_how_it_goes(market, client):
    seen, ids = [], []
    with working():
        made = client.subscribe(
            market.ref, GIVEN, with_logs=True, on_enqueue=ids.append, on_queue_update=seen.append
        )
    assert_made(made)
    assert ids == [str(Job.objects.get().pk)]
    assert isinstance(seen[-1], fal_client.Completed)
