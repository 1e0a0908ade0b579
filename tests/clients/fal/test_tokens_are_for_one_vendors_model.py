"""A token that the published client asks for by a bare name is good for no other vendor's model.

The client names a model in `allowed_apps` without its vendor, and anybody may list a model under
a name that somebody else has made known, at any price.
"""

import httpx
import pytest
from fal_client.client import RealtimeError

from marketplace.accounts import services as accounts
from marketplace.jobs.models import Job
from tests.cast import listed_version, open_licence
from tests.clients.conftest import working

GIVEN = {"prompt": "a red circle"}


@pytest.fixture
def list_theirs(market):
    """Have Charlie list a `sketch` too, a hundred times as dear. Returns its name."""

    def make():
        licence = open_licence(market.stranger)
        return listed_version(
            market.stranger, licence, market.sam, name="sketch", price="0.4"
        ).model.ref

    return make


def call(market, ref, token):
    url = f"{market.url}/fal/run/{ref}?fal_jwt_token={token}"
    with working():
        return httpx.post(url, json=GIVEN, timeout=30)


def ask(market, apps, secret=None):
    answer = httpx.post(
        f"{market.url}/fal/rest/tokens/",
        json={"allowed_apps": apps},
        headers={"Authorization": f"Key {secret or market.secret}"},
        timeout=30,
    )
    assert answer.status_code == 200, answer.text
    return answer.json()


def refused(market, ref, token):
    before = Job.objects.count()
    answer = call(market, ref, token)
    assert answer.status_code == 403, answer.text
    assert Job.objects.count() == before
    return answer.json()["error_type"]


def test_what_was_called_before_is_meant(market, client, list_theirs):
    with working():
        client.run(market.ref, GIVEN)
    theirs = list_theirs()
    token = client._get_realtime_token(market.ref)
    assert refused(market, theirs, token) == "model_not_allowed"
    assert call(market, market.ref, token).status_code == 200
    with working(), client.realtime(market.ref) as socket:
        socket.send(GIVEN)
        assert socket.recv()["seed"] == 7


def test_the_only_one_stays_meant(market, client, list_theirs):
    token = client._get_realtime_token(market.ref)
    theirs = list_theirs()
    assert refused(market, theirs, token) == "model_not_allowed"
    assert call(market, market.ref, token).status_code == 200


def test_a_name_of_several_is_none_and_says_so(market, client, list_theirs):
    theirs = list_theirs()
    token = client._get_realtime_token(market.ref)
    assert refused(market, theirs, token) == "model_not_named"
    assert refused(market, market.ref, token) == "model_not_named"
    with (
        client.realtime(market.ref) as socket,
        pytest.raises(RealtimeError, match=f"model_not_named.*call {market.ref} once"),
    ):
        socket.recv()
    with working():
        client.run(market.ref, GIVEN)
    assert call(market, market.ref, client._get_realtime_token(market.ref)).status_code == 200


def test_what_the_key_may_run_is_meant(market, list_theirs):
    theirs = list_theirs()
    _, secret = accounts.api_key_create(
        org=market.developer, name="one", scopes=["run"], allowed_models=[market.ref]
    )
    token = ask(market, ["sketch"], secret)
    assert refused(market, theirs, token) == "model_not_allowed"
    assert call(market, market.ref, token).status_code == 200


def test_a_full_name_is_itself(market, list_theirs):
    theirs = list_theirs()
    token = ask(market, [market.ref])
    assert refused(market, theirs, token) == "model_not_allowed"
    assert call(market, market.ref, token).status_code == 200


def test_a_name_that_nobody_has_is_not_for_who_takes_it_later(market, client):
    token = ask(market, ["later"])
    made = listed_version(market.vendor, market.licence, market.sam, name="later")
    assert refused(market, made.model.ref, token) == "model_not_named"
    assert refused(market, market.ref, token) == "model_not_allowed"


def test_an_unlisted_model_does_not_take_a_public_ones_name(market):
    licence = open_licence(market.stranger)
    hidden = listed_version(
        market.stranger, licence, market.sam, name="sketch", visibility="unlisted"
    )
    token = ask(market, ["sketch"])
    assert refused(market, hidden.model.ref, token) == "model_not_allowed"
    assert call(market, market.ref, token).status_code == 200
