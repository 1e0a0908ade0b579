"""What only reads changes nothing, on any route of any door, with a key of the scope `read`.

Django answers HEAD by a view's GET, and one GET of fal's door is a call that is paid for.
"""

import httpx
import pytest

from marketplace.accounts import services as accounts
from marketplace.jobs.models import Job
from tests.clients.belongings import belongings_of, rows
from tests.clients.conftest import working
from tests.clients.routes import all_routes

METHODS = ("HEAD", "GET", "OPTIONS", "QUERY")
NAMES = {
    "owner": "atelier", "vendor": "atelier", "name": "sketch", "alias": "sketch", "sub": "v1",
    "slug": "nothing", "form": "url", "number": "1", "token": "x" * 40,
}  # fmt: skip
"""What is in a path beside the ids of `belongings_of`: a model that everybody may call."""
QUERY = {"prompt": "a red circle", "q": "sketch"}


@pytest.fixture
def reader(market):
    """A client with a key of Bob's that may read and do nothing else."""
    _, secret = accounts.api_key_create(org=market.developer, name="reader", scopes=["read"])
    headers = {"Authorization": f"Key {secret}"}
    with httpx.Client(base_url=market.url, headers=headers, timeout=30) as client:
        yield client


@pytest.mark.timeout(300)
def test_on_every_route(market, reader, settings):
    settings.HEAVY_PER_SECOND, settings.HEAVY_BURST = 1000.0, 100_000
    owned = belongings_of(market).ids
    owned["job_id"] = owned["request_id"] = owned["ended_job_id"]  # so that no stream goes on
    before, answered = rows(), 0
    for route in all_routes():
        values = {
            name: owned[name][0] if name in owned else NAMES[name] for name in route.parameters
        }
        for method in METHODS:
            answer = reader.request(method, route.path(values), params=QUERY)
            answered += answer.is_success
            assert answer.status_code < 500, (method, route.text, answer.text)
    assert answered > 60, "the routes were found, and most of them may be read"
    after = rows()
    changed = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
    assert {label for label, _ in changed} <= {"accounts.ApiKey"}, changed  # when it was last used


def test_a_head_calls_no_model_whatever_the_key_may(market):
    for params in ({"prompt": "a red circle"}, {}):
        answer = httpx.head(
            f"{market.url}/fal/run/{market.ref}",
            params=params,
            headers={"Authorization": f"Key {market.secret}"},
            timeout=30,
        )
        assert answer.status_code == 405
        assert "HEAD" not in answer.headers["Allow"]
    assert Job.objects.count() == 0
    with working():
        made = httpx.get(
            f"{market.url}/fal/run/{market.ref}",
            params={"prompt": "a red circle"},
            headers={"Authorization": f"Key {market.secret}"},
            timeout=30,
        )
    assert made.status_code == 200, made.text
