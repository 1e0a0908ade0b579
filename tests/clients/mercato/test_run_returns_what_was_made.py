"""`run` returns what was made; `submit`, `get`, `wait` and `cancel` are its parts."""

import json
import threading
from decimal import Decimal

import pytest

from marketplace.jobs.models import Job
from mercato import JobCancelled, JobFailed, Timeout
from tests.cast import PIXEL
from tests.clients.conftest import failing, succeed, working

GIVEN = {"prompt": "a red circle"}


def test_a_picture_comes_back_and_is_saved(market, client, tmp_path):
    with working():
        made = client.run(market.ref, GIVEN, max_charge="0.01")
    (picture,) = made
    assert picture.read() == PIXEL
    assert (picture.content_type, picture.width, picture.height) == ("image/png", 128, 128)
    assert picture.save(tmp_path / "circle.png").read_bytes() == PIXEL
    assert picture.save(tmp_path).name == f"{picture.id}.png"
    assert picture.save(tmp_path / "circle.png").name == "circle.png", "it is replaced"
    for place in (tmp_path / "circle.png", tmp_path):
        with pytest.raises(FileExistsError):
            picture.save(place, overwrite=False)
    assert made.job.charge_nano_usd == 4_000_000
    assert made.job.charge_usd == Decimal("0.004")
    assert made.job.result == {"seed": 7}
    job = Job.objects.get()
    assert (job.charge_nano, job.api_key_id, job.door) == (4_000_000, market.key.pk, "")


def test_the_answer_is_held_instead_of_asked_for(market, make_client):
    client, asked = make_client(), []
    hook = asked.append
    if hasattr(client, "_inner"):

        async def hook(request):
            asked.append(request)

    pool = getattr(client, "_inner", client)._pool
    pool.event_hooks = {"request": [hook]}
    with working():
        client.run(market.ref, GIVEN)
    assert [(each.method, each.url.path) for each in asked] == [("POST", "/v1/jobs")]


def test_events_are_told_on_the_way(market, client):
    seen, opened = [], threading.Event()

    def see(event):
        seen.append(event)
        opened.set()

    def once_followed(job):
        assert opened.wait(10)
        succeed(job)

    with working(once_followed):
        made = client.run(market.ref, GIVEN, on_event=see)
    assert len(made) == 1
    assert seen[0].type == "status"
    assert seen[-1].type == "done"
    assert seen[-1].job.status == "succeeded"
    assert [(e.step, e.steps) for e in seen if e.type == "progress"] == [(2, 4), (4, 4)]


def test_a_job_is_submitted_looked_at_and_waited_for(market, client):
    job = client.submit(market.ref, GIVEN)
    assert (job.status, job.is_ended, job.quote_usd) == ("queued", False, Decimal("0.004"))
    assert job.charge_usd is None
    assert client.get(job.id).queue_position == 0
    with working():
        ended = client.wait(job)
    assert ended.status == "succeeded"
    assert client.wait(job.id, timeout=1) == ended
    assert ended.finished_at > ended.created_at


def test_a_job_stands_for_its_id(market, client):
    job, other = client.submit(market.ref, GIVEN), client.submit(market.ref, GIVEN)
    assert client.cancel(other).status == client.get(other).status == "cancelled"
    with working():
        assert list(client.iter_events(job))[-1].job.id == job.id


def test_a_version_by_its_number(market, client):
    with working():
        made = client.run(f"{market.ref}:1", {**GIVEN, "num_images": 2})
    assert (len(made), made.job.model) == (2, f"{market.ref}:1")


def test_a_model_that_fails_is_raised_and_free(market, client):
    with working(failing()), pytest.raises(JobFailed) as caught:
        client.run(market.ref, GIVEN)
    assert str(caught.value) == "The model failed on this input."
    assert caught.value.job.error.code == "engine_error"
    assert caught.value.job.charge_nano_usd == 0


def test_a_cancelled_job_is_raised_and_free(market, client):
    job = client.submit(market.ref, GIVEN)
    assert client.cancel(job.id).status == "cancelled"
    assert client.cancel(job.id).status == "cancelled", "cancelling again is no error"
    with pytest.raises(JobCancelled):
        client.wait(job).raise_for_status()
    assert Job.objects.get().charge_nano == 0


def test_what_ended_is_not_cancelled(market, client):
    with working():
        made = client.run(market.ref, GIVEN)
    assert client.cancel(made.job.id).status == "succeeded"


@pytest.mark.parametrize("options", [{}, {"on_event": lambda event: None}], ids=["held", "events"])
def test_a_timeout_leaves_the_job_to_be_waited_for(market, client, options):
    with pytest.raises(Timeout, match=r"has not ended in 1\.2 s\.") as caught:
        client.run(market.ref, GIVEN, timeout=1.2, **options)
    with working():
        assert client.wait(caught.value.job).status == "succeeded"
    assert Job.objects.count() == 1


def test_a_webhook_is_part_of_the_job(market, client, receiver):
    client.submit(market.ref, GIVEN, webhook_url=receiver.url)
    assert Job.objects.get().webhook_url == receiver.url


def test_the_same_key_makes_one_job(market, client):
    first = client.submit(market.ref, GIVEN, idempotency_key="order-7")
    assert client.submit(market.ref, GIVEN, idempotency_key="order-7").id == first.id
    assert client.submit(market.ref, GIVEN).id != first.id


def test_other_fields_of_the_body_can_be_sent(market, client):
    job = client.submit(market.ref, GIVEN, extra={"max_charge_nano_usd": 4_000_000})
    assert json.loads(json.dumps(job.raw))["id"] == job.id


def test_options_of_the_call_are_sent(market, client):
    job = client.submit(market.ref, GIVEN, priority="low", start_within_s=90, keep_s=7200)
    assert (job.raw["priority"], Job.objects.get().keep_s) == ("low", 7200)
    assert job.raw["start_by"]
