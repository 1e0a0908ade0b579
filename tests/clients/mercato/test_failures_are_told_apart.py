"""Each way to be refused has an exception of its own, with the field where there is one."""

import pytest
from waffle.testutils import override_switch

from marketplace.accounts import services as accounts
from marketplace.core import flags
from marketplace.jobs.models import Job
from mercato import (
    AuthenticationError,
    Conflict,
    ConnectionFailed,
    InsufficientFunds,
    InvalidInput,
    MercatoError,
    NotAllowed,
    NotFound,
    QuoteTooHigh,
    RateLimited,
    Unavailable,
)
from tests.clients.conftest import working

GIVEN = {"prompt": "a red circle"}


def refused(kind, client, ref, given=GIVEN, **more):
    with pytest.raises(kind) as caught:
        client.submit(ref, given, **more)
    assert type(caught.value) is kind
    assert isinstance(caught.value, MercatoError)
    assert caught.value.request_id
    return caught.value


@pytest.mark.parametrize("key", ["mk_nonsense", ""])
def test_a_bad_key_and_no_key(market, make_client, key):
    error = refused(AuthenticationError, make_client(key=key), market.ref)
    assert error.status == 401
    assert "mk_nonsense" not in str(error)


def test_a_key_that_no_header_can_carry(make_client):
    with pytest.raises(AuthenticationError):
        make_client(key="mk_ü\n")


def test_no_credit(market, make_client):
    error = refused(InsufficientFunds, make_client(key=market.stranger_secret), market.ref)
    assert error.code == "insufficient_funds"
    assert Job.objects.count() == 0


def test_a_budget_that_is_used_up(market, make_client):
    _, secret = accounts.api_key_create(
        org=market.developer, name="small", scopes=["run"], monthly_budget_nano=1
    )
    error = refused(InsufficientFunds, make_client(key=secret), market.ref)
    assert error.code == "budget_exceeded"


def test_a_key_that_may_not_run(market, make_client):
    _, secret = accounts.api_key_create(org=market.developer, name="reader", scopes=["read"])
    assert refused(NotAllowed, make_client(key=secret), market.ref).code == "scope_missing"


@pytest.mark.parametrize(
    ("given", "field"), [({}, "input.prompt"), ({**GIVEN, "num_images": 99}, "input.num_images")]
)
def test_a_bad_input_names_the_field(market, client, given, field):
    error = refused(InvalidInput, client, market.ref, given)
    assert list(error.fields) == [field]
    assert field in str(error)


def test_a_call_dearer_than_allowed(market, client):
    error = refused(QuoteTooHigh, client, market.ref, max_charge="0.003")
    assert isinstance(error, InvalidInput)
    assert Job.objects.count() == 0


@pytest.mark.parametrize("ref", ["atelier/nothing", "atelier/sketch:9"])
def test_no_such_model(client, ref):
    refused(NotFound, client, ref)


def test_no_such_job_and_not_one_of_another(market, client, make_client):
    job = client.submit(market.ref, GIVEN)
    stranger = make_client(key=market.stranger_secret)
    for asked in (job.id, "no-id", "../balance"):
        for method in (stranger.get, stranger.cancel, lambda i: list(stranger.iter_events(i))):
            with pytest.raises(NotFound):
                method(asked)
    assert client.get(job.id).status == "queued"


def test_a_key_of_another_request(market, client):
    client.submit(market.ref, GIVEN, idempotency_key="order-7")
    error = refused(Conflict, client, market.ref, {"prompt": "blue"}, idempotency_key="order-7")
    assert error.code == "idempotency_key_reused"


def test_the_market_takes_no_calls(market, client):
    with override_switch(flags.CALLS, active=False):
        assert refused(Unavailable, client, market.ref).code == "calls_off"


def test_too_many_requests_are_waited_for_and_then_raised(market, make_client, settings):
    settings.READS_PER_SECOND, settings.READS_BURST = 2.0, 1
    patient, hasty = make_client(), make_client(max_retries=0)
    for _ in range(3):
        patient.balance()
    with pytest.raises(RateLimited) as caught:
        [hasty.balance() for _ in range(5)]
    assert caught.value.retry_after >= 1


def test_nobody_there(make_client):
    client = make_client(url="http://127.0.0.1:1", max_retries=1)
    with pytest.raises(ConnectionFailed, match=r"http://127\.0\.0\.1:1 cannot be reached"):
        client.balance()


def test_an_address_that_is_none(make_client):
    with pytest.raises(MercatoError, match="no http"):
        make_client(url="market.example")


def test_an_amount_that_is_none(market, client):
    with pytest.raises(ValueError, match="not an amount"):
        client.submit(market.ref, GIVEN, max_charge="a lot")


def test_no_answer_in_time(market, make_client):
    client = make_client(timeout=0.000001, max_retries=0)
    with pytest.raises(ConnectionFailed):
        client.balance()


def test_an_output_that_was_deleted(market, client):
    with working():
        (picture,) = client.run(market.ref, GIVEN)
    job = Job.objects.get()
    job.outputs.update(deleted_at="2026-01-01T00:00:00Z")
    (gone,) = client.get(str(job.pk)).outputs
    with pytest.raises(NotFound):
        gone.read()
    assert picture.read()
