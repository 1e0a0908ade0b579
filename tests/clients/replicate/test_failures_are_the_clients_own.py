"""What goes wrong is raised as the client's own exceptions, and no call is sent twice."""

from importlib.metadata import version

import pytest
from replicate.exceptions import ModelError, ReplicateError
from waffle.testutils import override_switch

from marketplace.accounts import services as accounts
from marketplace.core import flags
from marketplace.jobs.models import Job
from tests.clients.conftest import failing, working

GIVEN = {"prompt": "a red circle"}


@pytest.fixture
def sent(client):
    """The requests that the client sends."""
    seen = []
    client._client.event_hooks = {"request": [seen.append]}
    return seen


def refused(client, ref, given=GIVEN, **more):
    with pytest.raises(ReplicateError) as caught:
        client.run(ref, input=given, **more)
    assert caught.value.status
    assert caught.value.title
    return caught.value


def test_a_bad_key(market, make_client):
    error = refused(make_client("mk_nonsense"), market.ref)
    assert (error.status, error.title) == (401, "Unauthorized")


def test_no_key(market, client):
    del client._client.headers["Authorization"]
    assert refused(client, market.ref).status == 401


def test_no_credit_is_one_request(market, make_client):
    client, seen = make_client(market.stranger_secret), []
    client._client.event_hooks = {"request": [seen.append]}
    error = refused(client, market.ref)
    assert (error.status, error.title) == (402, "Payment Required")
    assert len(seen) == 1
    assert Job.objects.count() == 0


def test_a_budget_of_the_key(market, make_client):
    _, secret = accounts.api_key_create(
        org=market.developer, name="small", scopes=["run"], monthly_budget_nano=1
    )
    assert refused(make_client(secret), market.ref).status == 402


def test_a_key_that_may_not_run(market, make_client):
    _, secret = accounts.api_key_create(org=market.developer, name="reader", scopes=["read"])
    assert refused(make_client(secret), market.ref).status == 403
    _, secret = accounts.api_key_create(
        org=market.developer, name="other", scopes=["run"], allowed_models=["atelier/other"]
    )
    assert refused(make_client(secret), market.ref).status == 403


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({}, "input.prompt"),
        ({**GIVEN, "num_images": 99}, "input.num_images"),
        ({**GIVEN, "webhook": "https://example.org"}, "input.webhook"),
    ],
)
def test_a_bad_input_names_the_field(market, client, sent, given, field):
    error = refused(client, market.ref, given)
    assert error.status == 422
    assert field in error.detail
    assert len(sent) == 1


@pytest.mark.parametrize(
    "ref", ["atelier/nothing", "nobody/sketch", "atelier/sketch:2", "atelier/sketch:" + "0" * 32]
)
def test_no_such_model(market, client, ref):
    assert refused(client, ref).status == 404


def test_a_webhook_into_our_own_network(market, client):
    error = refused(client, market.ref, webhook="ftp://example.org/hook")
    assert (error.status, Job.objects.count()) == (422, 0)


def test_a_model_that_fails_costs_nothing(market, client):
    with working(failing()), pytest.raises(ModelError) as caught:
        client.run(market.ref, input=GIVEN)
    assert caught.value.prediction.status == "failed"
    assert str(caught.value) == "The model failed on this input."
    assert Job.objects.get().charge_nano == 0


def test_a_cancelled_call(market, client):
    made = client.models.predictions.create(model=market.ref, input=GIVEN)
    made.cancel()
    assert made.status == "canceled"
    made.cancel()
    assert made.status == "canceled", "cancelling again is no error"
    assert Job.objects.get().charge_nano == 0


def test_cancelling_what_has_ended_changes_nothing(market, client):
    with working():
        made = client.models.predictions.create(model=market.ref, input=GIVEN, wait=10)
    made.cancel()
    assert made.status == "succeeded"


def test_while_the_market_takes_no_calls_a_post_is_sent_once(market, client, sent):
    with override_switch(flags.CALLS, active=False):
        error = refused(client, market.ref)
    assert (error.status, len(sent)) == (503, 1)


def test_deployments_say_what_to_call_instead(market, client):
    with pytest.raises(ReplicateError) as caught:
        client.deployments.predictions.create(market.ref, GIVEN)
    assert caught.value.status == 404
    assert f"/models/{market.ref}/predictions" in caught.value.detail


def test_trainings_are_no_route(market, client):
    with pytest.raises(ReplicateError) as caught:
        client.trainings.list()
    assert (caught.value.status, caught.value.title) == (404, "Not Found")


def test_one_body_for_every_client(market, client):
    answer = client._client.post(f"/v1/models/{market.ref}/predictions", json={"input": {}})
    body = answer.json()
    assert (body["status"], body["type"], body["detail"]) == (422, "about:blank", body["message"])
    assert body["error_type"] == body["error"]["code"] == "invalid_input"
    assert body["error"]["type"] == "invalid_request_error"
    assert body["error"]["param"] == "input.prompt"
    assert body["request_id"] == answer.headers["x-request-id"]
    assert answer.headers["x-should-retry"] == "false"


def test_the_client_is_the_published_one():
    assert version("replicate") == "1.0.7"
