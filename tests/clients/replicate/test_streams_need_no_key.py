"""The stream of a prediction is read by its own address, with events as the client knows them."""

import time

import httpx
import pytest

from marketplace.jobs import links
from marketplace.jobs.models import Job
from tests.cast import PIXEL
from tests.clients.conftest import failing, succeed, working

GIVEN = {"prompt": "a red circle"}


def told(client, market, **more):
    return list(client.stream(market.ref, input=GIVEN, **more))


def later(job):
    """Work when the stream has long been opened."""
    time.sleep(1)
    succeed(job)


def test_progress_outputs_and_the_end(market, client):
    with working(later):
        seen = told(client, market)
    kinds = [event.event.value for event in seen]
    assert kinds[-2:] == ["output", "done"]
    assert all(event.id for event in seen)
    logs = [event.data for event in seen if event.event.value == "logs"]
    assert logs[-2:] == [" 50%|#####     | 2/4", "100%|##########| 4/4"]
    assert httpx.get(seen[-2].data).content == PIXEL
    assert seen[-1].data == "{}"


def test_a_fault_raises_as_the_client_does(market, client):
    with working(failing()), pytest.raises(RuntimeError, match="The model failed on this input"):
        told(client, market)


def test_a_cancelled_call_ends_its_stream(market, client):
    made = client.models.predictions.create(model=market.ref, input=GIVEN)
    made.cancel()
    (end,) = made.stream()
    assert (end.event.value, end.data) == ("done", '{"reason": "canceled"}')


def test_after_the_end_the_kept_log_is_told_again(market, client):
    with working():
        client.run(market.ref, input=GIVEN)
    seen = list(client.predictions.get(str(Job.objects.get().pk)).stream())
    assert [event.event.value for event in seen] == ["logs", "logs", "output", "done"]
    assert [event.data for event in seen][:2] == [" 50%|#####     | 2/4", "100%|##########| 4/4"]
    address = client.predictions.get(str(Job.objects.get().pk)).urls["stream"]
    rest = httpx.get(address, headers={"Last-Event-ID": seen[0].id}).text
    assert " 50%|" not in rest
    assert "100%|" in rest


def test_the_address_is_the_permission_and_expires(market, client, settings):
    made = client.models.predictions.create(model=market.ref, input=GIVEN)
    made.cancel()
    address = made.urls["stream"]
    answer = httpx.get(address)  # no key
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["x-mercato-quote-nano-usd"] == "4000000"
    assert httpx.get(address[:-2]).status_code == 404
    settings.FILE_URL_TTL_S = 1
    time.sleep(2.1)
    gone = httpx.get(address)
    assert (gone.status_code, gone.json()["instance"]) == (404, "")


def test_a_link_to_a_stream_is_no_link_to_a_file(market, client):
    made = client.models.predictions.create(model=market.ref, input=GIVEN)
    token = links.stream_token(Job.objects.get())
    assert httpx.get(f"{market.url}/files/{token}").status_code == 404
    made.cancel()


def test_progress_of_a_prediction(market, client):
    with working():
        client.run(market.ref, input=GIVEN)
    made = client.predictions.get(str(Job.objects.get().pk))
    assert (made.progress.current, made.progress.total, made.progress.percentage) == (4, 4, 1.0)
    assert made.metrics["total_time"] > 0
