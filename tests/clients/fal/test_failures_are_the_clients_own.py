"""What goes wrong is raised as the client's own exceptions, and no call is sent twice."""

import time

import fal_client
import httpx
import pytest
from fal_client.client import FalClientHTTPError, FalClientTimeoutError
from waffle.testutils import override_switch

from marketplace.accounts import services as accounts
from marketplace.core import flags
from marketplace.jobs import retention, sweeper
from marketplace.jobs.models import Job
from tests.cast import report_started
from tests.clients.conftest import failing, working

GIVEN = {"prompt": "a red circle"}


@pytest.fixture
def sent(client):
    """The POSTs that the client sends."""
    return posts_of(client)


def posts_of(client):
    seen = []
    client._client.event_hooks = {
        "request": [lambda request: seen.append(request) if request.method == "POST" else None]
    }
    return seen


WAYS = ["run", "submit", "subscribe"]


def refused(client, ref, given=GIVEN, way="run", **more):
    with pytest.raises(FalClientHTTPError) as caught:
        getattr(client, way)(ref, given, **more)
    return caught.value


@pytest.mark.parametrize("way", WAYS)
def test_a_bad_key(market, make_client, way):
    client = make_client("mk_nonsense")
    seen = posts_of(client)
    error = refused(client, market.ref, way=way)
    assert (error.status_code, error.error_type, len(seen)) == (401, "malformed_key", 1)


@pytest.mark.parametrize("way", WAYS)
def test_no_credit_is_one_request(market, make_client, way):
    client = make_client(market.stranger_secret)
    seen = posts_of(client)
    error = refused(client, market.ref, way=way)
    assert (error.status_code, error.error_type, len(seen)) == (402, "insufficient_funds", 1)
    assert Job.objects.count() == 0


def test_a_budget_and_the_limits_of_a_key(market, make_client):
    for status, limits in (
        (402, {"scopes": ["run"], "monthly_budget_nano": 1}),
        (403, {"scopes": ["read"]}),
        (403, {"scopes": ["run"], "allowed_models": ["atelier/other"]}),
    ):
        _, secret = accounts.api_key_create(org=market.developer, name="small", **limits)
        assert refused(make_client(secret), market.ref).status_code == status


@pytest.mark.parametrize(
    ("given", "field"),
    [({}, "prompt"), ({**GIVEN, "num_images": 99}, "num_images"), ({**GIVEN, "x": 1}, "x")],
)
@pytest.mark.parametrize("way", WAYS)
def test_a_bad_input_names_the_field(market, client, sent, given, field, way):
    error = refused(client, market.ref, given, way)
    assert (error.status_code, error.error_type, len(sent)) == (422, "invalid_input", 1)
    (told,) = error.message
    assert told["loc"] == ["body", field]
    assert told["msg"]
    assert told["type"] == "invalid_input"


@pytest.mark.parametrize("name", ["webhook", "webhookUrl", "webhook_url", "fal_webhook"])
def test_a_webhook_inside_the_input_is_told_where_it_belongs(market, client, name):
    (told,) = refused(client, market.ref, {**GIVEN, name: "https://example.org"}).message
    assert "beside the input: `webhook_url=` in Python, `webhookUrl` in JavaScript" in told["msg"]


@pytest.mark.parametrize(
    "ref",
    ["atelier/nothing", "nobody/sketch", "atelier/sketch/v2", "atelier/sketch/fast",
     "atelier/sketch/v1/fast", "workflows/atelier/sketch"],
)  # fmt: skip
@pytest.mark.parametrize("way", ["run", "submit"])
def test_no_such_model(market, client, sent, ref, way):
    error = refused(client, ref, way=way)
    assert (error.status_code, error.error_type, len(sent)) == (404, "model_not_found", 1)


def test_requests_is_no_name_of_a_version(market, client):
    assert refused(client, f"{market.ref}/requests", way="submit").status_code == 404


def test_a_webhook_to_no_address(market, client):
    error = refused(client, market.ref, way="submit", webhook_url="ftp://example.org/hook")
    assert (error.status_code, Job.objects.count()) == (422, 0)


@pytest.mark.parametrize("way", ["run", "subscribe"])
def test_a_model_that_fails_costs_nothing(market, client, sent, way):
    with working(failing()):
        error = refused(client, market.ref, way=way)
    assert (error.status_code, error.error_type) == (500, "engine_error")
    assert error.message == "The model failed on this input."
    assert error.response_headers["x-fal-request-id"] == str(Job.objects.get().pk)
    assert error.response_headers["x-fal-billable-units"] == "0"
    assert len(sent) == 1
    assert Job.objects.get().charge_nano == 0


def test_an_input_that_the_model_refuses(market, client):
    with working(failing("invalid_input")):
        assert refused(client, market.ref).status_code == 422


def test_a_fault_is_completed_with_an_error(market, client):
    handle = client.submit(market.ref, GIVEN)
    with working(failing()):
        while not isinstance(status := handle.status(), fal_client.Completed):
            time.sleep(0.02)
    assert (status.error, status.error_type) == ("The model failed on this input.", "engine_error")


def test_a_cancelled_call(market, client):
    handle = client.submit(market.ref, GIVEN)
    handle.cancel()
    status = handle.status()
    assert isinstance(status, fal_client.Completed)
    assert status.error_type == "cancelled"
    handle.cancel()
    with pytest.raises(FalClientHTTPError) as caught:
        client.result(market.ref, handle.request_id)
    assert (caught.value.status_code, caught.value.error_type) == (400, "cancelled")
    assert Job.objects.get().charge_nano == 0


def test_cancelling_what_has_ended_changes_nothing(market, client):
    handle = client.submit(market.ref, GIVEN)
    with working():
        handle.get()
    handle.cancel()
    assert handle.get()["seed"] == 7


def test_a_request_in_progress_has_no_result(market, client):
    handle = client.submit(market.ref, GIVEN)
    answer = client._client.get(handle.response_url)
    assert (answer.status_code, answer.json()["error_type"]) == (400, "request_in_progress")


def test_a_client_that_waits_no_longer_cancels(market, client):
    with pytest.raises(FalClientTimeoutError) as caught:
        client.subscribe(market.ref, GIVEN, client_timeout=1.5)
    job = Job.objects.get()
    assert caught.value.request_id == str(job.pk)
    assert (job.status, job.charge_nano) == ("cancelled", 0)
    assert (job.start_by - job.created_at).total_seconds() == 1.5


def test_a_call_that_no_worker_takes_in_time(market, client, sent):
    def too_late(job):
        time.sleep(1.6)
        sweeper.sweep()

    with working(too_late):
        error = refused(client, market.ref, start_timeout=1.5)
    assert (error.status_code, error.error_type) == (504, "start_timeout")
    assert error.response_headers["x-fal-request-timeout-type"] == "user"
    assert len(sent) == 1
    assert Job.objects.get().charge_nano == 0


def test_an_answer_is_not_held_for_ever(market, client, sent, settings):
    settings.RUN_HOLD_S = 1
    error = refused(client, market.ref)
    assert (error.status_code, error.error_type, len(sent)) == (504, "request_timeout", 1)
    job = Job.objects.get()
    assert f"/{market.ref}/requests/{job.pk}" in error.message
    assert job.status == "queued", "it goes on, and the queue tells its end"
    with working():
        assert client.result(market.ref, str(job.pk))["seed"] == 7


def test_while_the_market_takes_no_calls_a_post_is_sent_once(market, client, sent):
    with override_switch(flags.CALLS, active=False):
        error = refused(client, market.ref)
    assert (error.status_code, len(sent)) == (503, 1)


def test_an_answer_that_was_held_is_not_limited_again(market, client, sent, settings):
    """A 429 there would have the client send the call again, up to ten times."""
    settings.READS_BURST, settings.READS_PER_SECOND = 1, 0.01
    with working():
        assert client.run(market.ref, GIVEN)["seed"] == 7
        assert client.run(market.ref, GIVEN)["seed"] == 7
    assert len(sent) == 2


@pytest.mark.parametrize(
    "headers",
    [{"X-Fal-Request-Timeout": "soon"}, {"X-Fal-Request-Timeout": "nan"},
     {"X-Fal-Queue-Priority": "high"}, {"X-Fal-Object-Lifecycle-Preference": "[]"},
     {"X-Fal-Object-Lifecycle-Preference": '{"expiration_duration_seconds": -1}'},
     {"X-Fal-Object-Lifecycle-Preference": '{"expiration_duration_seconds": true}'}],
)  # fmt: skip
def test_headers_that_say_nothing(market, client, sent, headers):
    error = refused(client, market.ref, headers=headers)
    assert (error.status_code, len(sent), Job.objects.count()) == (422, 1, 0)


def test_what_was_deleted_is_said(market, client):
    handle = client.submit(market.ref, GIVEN)
    with working():
        handle.get()
    retention.job_purge(org=market.developer, job=Job.objects.select_related("version").get())
    with pytest.raises(FalClientHTTPError) as caught:
        handle.get()
    assert (caught.value.status_code, caught.value.error_type) == (410, "data_removed")


def test_one_body_for_every_client(market):
    answer = httpx.post(
        f"https://fal.run/{market.ref}", json={}, headers={"Authorization": f"Key {market.secret}"}
    )
    body = answer.json()
    assert body["message"] == f"prompt: {body['detail'][0]['msg']}"
    assert body["error_type"] == body["error"]["code"] == "invalid_input"
    assert answer.headers["x-fal-error-type"] == "invalid_input"
    assert body["error"]["param"] == "input.prompt"


def test_a_running_call_is_in_progress(market, client):
    from marketplace.jobs import services

    handle = client.submit(market.ref, GIVEN)
    services.job_started(report_started(Job.objects.get()))
    status = handle.status(with_logs=True)
    assert isinstance(status, fal_client.InProgress)
    assert status.logs == []
    handle.cancel()
