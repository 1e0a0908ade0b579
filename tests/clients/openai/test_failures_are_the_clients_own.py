"""What goes wrong is raised as the client's own exceptions, and no call is sent twice."""

import time

import openai
import pytest
from waffle.testutils import override_switch

from marketplace.accounts import services as accounts
from marketplace.core import flags
from marketplace.jobs import services
from marketplace.jobs.models import Job
from tests.cast import report_started
from tests.clients.conftest import failing, working

PROMPT = "a red circle"


def refused(client, kind, model, **given):
    with pytest.raises(kind) as caught:
        client.images.generate(**{"model": model, "prompt": PROMPT, **given})
    assert type(caught.value) is kind
    assert len(client.sent) == 1, "a call that fails is sent once"
    return caught.value


def status(job):
    """Return how a job ends, within ten seconds."""
    end = time.monotonic() + 10
    while not job.is_ended and time.monotonic() < end:
        time.sleep(0.05)
        job.refresh_from_db()
    return job.status


def test_a_bad_key(market, make_client):
    error = refused(make_client("mk_nonsense"), openai.AuthenticationError, market.ref)
    assert (error.status_code, error.code) == (401, "malformed_key")


def test_no_credit(market, make_client):
    client = make_client(market.stranger_secret)
    error = refused(client, openai.APIStatusError, market.ref)
    assert (error.status_code, error.code, error.type) == (
        402, "insufficient_funds", "insufficient_funds",
    )  # fmt: skip
    assert Job.objects.count() == 0


def test_a_key_that_may_not_run(market, make_client):
    _, secret = accounts.api_key_create(org=market.developer, name="reader", scopes=["read"])
    refused(make_client(secret), openai.PermissionDeniedError, market.ref)
    _, secret = accounts.api_key_create(
        org=market.developer, name="other", scopes=["run"], allowed_models=["atelier/other"]
    )
    error = refused(make_client(secret), openai.PermissionDeniedError, market.ref)
    assert error.param == "model"


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"prompt": ""}, "prompt"),
        ({"n": 99}, "n"),
        ({"size": "9000x9000"}, "size"),
        ({"size": "big"}, "size"),
        ({"response_format": "file"}, "response_format"),
        ({"background": "transparent"}, "background"),
        ({"output_format": "svg"}, "output_format"),
        ({"extra_body": {"flow_shift": 3}}, "flow_shift"),
        ({"extra_body": {"seed": -1}}, "seed"),
        ({"extra_body": {"loras": [{"path": "x"}]}}, "loras"),
    ],
)
def test_a_bad_input_names_the_field(market, client, given, param):
    error = refused(client, openai.UnprocessableEntityError, market.ref, **given)
    assert (error.param, error.type) == (param, "invalid_request_error")
    assert param in error.body["message"]
    assert Job.objects.count() == 0


def test_a_body_that_is_no_json_object(market, client):
    with pytest.raises(openai.UnprocessableEntityError):
        client.post("/images/generations", cast_to=object, body=["x"])
    with pytest.raises(openai.BadRequestError):
        client.post("/images/generations", cast_to=object, body={"prompt": "\x00"})


@pytest.mark.parametrize("ref", ["atelier/nothing", "gpt-image-1", "atelier/sketch:2"])
def test_no_such_model(market, client, ref):
    error = refused(client, openai.NotFoundError, ref)
    assert (error.param, error.code) == ("model", "model_not_found")


def test_no_model_at_all(market, client):
    assert refused(client, openai.UnprocessableEntityError, "").param == "model"


def test_a_model_that_fails_costs_nothing(market, client):
    with working(failing()):
        error = refused(client, openai.InternalServerError, market.ref)
    assert error.response.headers["x-mercato-charge-nano-usd"] == "0"
    assert (error.code, error.body["message"]) == (
        "engine_error", "The model failed on this input.",
    )  # fmt: skip
    assert Job.objects.get().charge_nano == 0


def test_an_input_that_the_model_refuses(market, client):
    with working(failing("invalid_input")):
        error = refused(client, openai.UnprocessableEntityError, market.ref)
    assert error.code == "invalid_input"


def test_a_call_that_somebody_cancels(market, client):
    with working(lambda job: services.job_cancel(org=job.org, job=job)):
        error = refused(client, openai.UnprocessableEntityError, market.ref)
    assert error.code == "cancelled"


@pytest.mark.parametrize("started", [False, True])
def test_who_hangs_up_cancels_the_call(market, client, started):
    def take(job):
        if started:
            services.job_started(report_started(job))

    with working(take), pytest.raises(openai.APITimeoutError):
        client.with_options(timeout=2, max_retries=0).images.generate(
            model=market.ref, prompt=PROMPT
        )
    job = Job.objects.get()
    end = time.monotonic() + 10
    while job.cancel_requested_at is None and time.monotonic() < end:
        time.sleep(0.05)
        job.refresh_from_db()
    assert job.cancel_requested_at is not None
    if not started:
        assert (status(job), job.charge_nano) == ("cancelled", 0)


def test_a_repeated_call_is_paid_once(market, client):
    def slow_at_first(job):
        if Job.objects.count() > 1:
            from tests.clients.conftest import succeed

            succeed(job)

    with working(slow_at_first):
        made = client.with_options(timeout=2, max_retries=1).images.generate(
            model=market.ref, prompt=PROMPT
        )
        first = Job.objects.exclude(pk=made.id).get()
        assert status(first) == "cancelled"
    assert sorted(Job.objects.values_list("charge_nano", flat=True)) == [0, 4_000_000]


def test_a_call_with_a_key_goes_on_and_is_found_again(market, client):
    def slowly(job):
        from tests.clients.conftest import succeed

        time.sleep(2.5)
        succeed(job)

    with working(slowly):
        made = client.with_options(timeout=2, max_retries=2).images.generate(
            model=market.ref, prompt=PROMPT, extra_headers={"Idempotency-Key": "once"}
        )
    assert made.data
    assert len(client.sent) > 1
    job = Job.objects.get()
    assert (job.status, job.charge_nano) == ("succeeded", 4_000_000)


def test_when_the_time_is_up_the_call_goes_on(market, client, settings):
    settings.MAX_CALL_WAIT_S = 1.0
    error = refused(client, openai.InternalServerError, market.ref)
    assert (error.status_code, error.code) == (504, "still_running")
    job = Job.objects.get()
    assert job.status == "queued"
    with working():
        assert status(job) == "succeeded"
    again = client.get(f"/images/generations/{error.body['id']}", cast_to=object)
    assert again["data"][0]["b64_json"]


def test_while_the_market_takes_no_calls(market, client):
    once = client.with_options(max_retries=0)
    closed = override_switch(flags.CALLS, active=False)
    with closed, pytest.raises(openai.InternalServerError) as caught:
        once.images.generate(model=market.ref, prompt=PROMPT)
    assert caught.value.status_code == 503
    assert Job.objects.count() == 0


def test_the_limit_of_reads_does_not_take_an_answer_away(market, client, settings):
    settings.READS_PER_SECOND, settings.READS_BURST = 0.01, 1
    client.with_options(max_retries=0).models.list()
    with pytest.raises(openai.RateLimitError):
        client.with_options(max_retries=0).models.list()
    with working():
        assert client.images.generate(model=market.ref, prompt=PROMPT).data


def test_no_route(market, client):
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model=market.ref, messages=[])


def test_clips_are_called_elsewhere(market, client, filmer):
    assert "videos" in refused(client, openai.UnprocessableEntityError, filmer).body["message"]
