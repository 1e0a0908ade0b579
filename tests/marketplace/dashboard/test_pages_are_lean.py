"""No page asks the database more than 20 times, however long its lists are."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from marketplace.accounts.services import api_key_create
from tests.cast import listed_version

MOST = 20


@pytest.fixture
def crowd(cast, make_job):
    for number in range(12):
        make_job(("succeeded", "failed", "queued", "running")[number % 4], num_images=2)
        api_key_create(org=cast.developer, name=f"key {number}", created_by=cast.bob)
        listed_version(cast.vendor, cast.licence, cast.sam, name=f"m{number}")
    base = cast.version
    for depth in range(3):
        base = listed_version(cast.vendor, cast.licence, cast.sam, name=f"d{depth}", base=base)


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/models/atelier/sketch/",
        "/models/atelier/d2/",
        "/vendors/atelier/",
        "/pricing/",
        "/dashboard/",
        "/dashboard/jobs/",
        "/dashboard/keys/",
        "/dashboard/jobs/?status=failed&source=api&model=atelier/sketch",
        "/dashboard/usage/",
        "/dashboard/webhooks/",
        "/dashboard/budgets/",
        "/dashboard/invoices/",
        "/dashboard/audit/",
        "/dashboard/settings/",
        "/dashboard/billing/",
        "/dashboard/team/",
    ],
)
def test_a_developers_pages(bob, crowd, path):
    with CaptureQueriesContext(connection) as queries:
        assert bob.get(path).status_code == 200
    assert len(queries) <= MOST, [query["sql"][:120] for query in queries]


@pytest.mark.parametrize(
    "path",
    [
        "/vendor/",
        "/vendor/models/d2/",
        "/vendor/models/d2/versions/1/",
        "/vendor/models/sketch/versions/new/",
        "/vendor/licences/",
        "/vendor/earnings/",
    ],
)
def test_a_vendors_pages(alice, crowd, path):
    with CaptureQueriesContext(connection) as queries:
        assert alice.get(path).status_code == 200
    assert len(queries) <= MOST, [query["sql"][:120] for query in queries]


def test_a_job_and_its_fragment(bob, make_job):
    ended = make_job("succeeded")
    with CaptureQueriesContext(connection) as queries:
        bob.get(f"/dashboard/jobs/{ended.pk}/")
    assert len(queries) <= MOST
    path = f"/dashboard/jobs/{make_job('running').pk}/"
    with CaptureQueriesContext(connection) as queries:
        bob.get(path)
    assert len(queries) <= MOST
    with CaptureQueriesContext(connection) as queries:
        bob.get(path, headers={"HX-Request": "true"})
    assert len(queries) <= MOST
