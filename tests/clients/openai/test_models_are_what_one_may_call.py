"""`models`: ids are vendor/name, whether the client writes the slash as it is or as %2F."""

import openai
import pytest

from marketplace.accounts import services as accounts
from tests.cast import listed_version


def test_models_are_listed_and_found(market, client, filmer):
    listed = list(client.models.list())
    assert [row.id for row in listed] == [filmer, market.ref]
    assert {(row.object, row.owned_by) for row in listed} == {("model", "atelier")}
    found = client.models.retrieve(market.ref)  # as %2F
    assert found == listed[1]
    assert client.get(f"/models/{market.ref}", cast_to=type(found)) == found  # as /


def test_private_models_are_their_vendors(market, make_client):
    made = listed_version(
        market.vendor, market.licence, market.sam, name="secret", visibility="private"
    )
    _, own = accounts.api_key_create(org=market.vendor, name="own", scopes=["run"])
    assert made.model.ref in [row.id for row in make_client(own).models.list()]
    stranger = make_client(market.stranger_secret)
    assert made.model.ref not in [row.id for row in stranger.models.list()]
    with pytest.raises(openai.NotFoundError):
        stranger.models.retrieve(made.model.ref)


def test_a_key_of_some_models_lists_those(market, make_client, filmer):
    _, secret = accounts.api_key_create(
        org=market.developer, name="one", scopes=["run"], allowed_models=[filmer]
    )
    assert [row.id for row in make_client(secret).models.list()] == [filmer]


def test_models_are_not_deleted_here(market, client):
    with pytest.raises(openai.PermissionDeniedError, match="vendor"):
        client.models.delete(market.ref)
    assert client.models.retrieve(market.ref).id == market.ref


def test_what_is_not_there(market, client, make_client):
    for ref in ("atelier/nothing", "gpt-image-1"):
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve(ref)
    with pytest.raises(openai.AuthenticationError):
        make_client("mk_nonsense").models.list()
