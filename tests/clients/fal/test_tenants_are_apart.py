"""On every route of the door another organisation's key finds nothing and changes nothing."""

import re

import httpx
import pytest
from fal_client.client import RealtimeError

from marketplace.api.fal.urls import urlpatterns
from marketplace.jobs import places, services
from marketplace.jobs.models import File, Job
from tests.cast import listed_version

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
OWN = r"^(rest/|cdn/files/upload)"
"""What one asks for oneself: tokens, keys to check webhooks with, places for one's own files."""
GIVEN = {"prompt": "x"}


@pytest.fixture
def theirs(market, client):
    """What Alice and Bob have and Charlie may not see: values for the parameters of routes."""
    listed_version(market.vendor, market.licence, market.sam, name="secret", visibility="private")
    job, _ = services.job_submit(org=market.developer, ref=market.ref, given=GIVEN)
    file_id = client.upload(b"x", "text/plain").rpartition("/")[2]
    return {
        "request_id": str(job.pk), "file_id": file_id, "owner": "atelier", "alias": "sketch",
        "sub": "v1", "token": "x" * 40, "number": "1",
    }  # fmt: skip


def state():
    jobs = list(Job.objects.order_by("pk").values())
    return jobs, list(File.objects.order_by("pk").values())


def asked(market, method, path):
    headers = {"Authorization": f"Key {market.stranger_secret}"}
    return httpx.request(method, f"{market.url}/fal/{path}", headers=headers, json=GIVEN)


def test_every_route(market, theirs):
    before, closed = state(), 0
    for each in urlpatterns:
        route = getattr(each.pattern, "_route", None)
        if route is None or re.match(OWN, route):
            continue
        private = {**theirs, "alias": "sketch" if "request_id" in route else "secret"}
        path = re.sub(r"<\w+:(\w+)>", lambda found, at=private: at[found[1]], route)
        for method in METHODS:
            answer = asked(market, method, path)
            told = (method, path, answer.status_code, answer.text)
            assert answer.status_code in (401, 404, 405), told
            if answer.status_code != 401:  # which only an address without its token says
                assert theirs["request_id"] not in answer.text.replace(path, ""), told
            closed += answer.status_code == 404
    assert closed >= 12
    assert state() == before


def test_sockets(market, theirs, make_client):
    with (
        make_client(market.stranger_secret).realtime("atelier/secret") as socket,
        pytest.raises(RealtimeError, match="model_not_found"),
    ):
        socket.recv()
    assert Job.objects.count() == 1


def test_tokens_and_places_are_their_owners(market, theirs, make_client):
    stranger = make_client(market.stranger_secret)
    token = stranger._get_realtime_token("atelier/secret")
    url = f"{market.url}/fal/run/atelier/secret?fal_jwt_token={token}"
    assert httpx.post(url, json=GIVEN).status_code == 404
    stranger.upload(b"y", "text/plain")
    assert File.objects.get(org=market.stranger).size == 1
    place = places.place_make(org=market.stranger, name="x", content_type="text/plain")
    into = f"{market.url}/fal/cdn/files/{theirs['file_id']}/content/{place.token}"
    assert httpx.put(into, content=b"z").status_code == 404
    assert File.objects.get(pk=theirs["file_id"]).size == 1


def test_ones_own_list_is_empty(market, theirs):
    answer = asked(market, "GET", f"queue/{market.ref}/requests/{theirs['request_id']}")
    assert answer.json()["detail"] == "There is no such job."
