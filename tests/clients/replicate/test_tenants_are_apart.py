"""Lists, private versions, secrets and outputs of the door are their owner's only.

That no route opens to another organisation is in tests/clients/test_two_tenants_on_every_route.py.
"""

import io

import httpx
import pytest

from marketplace.jobs import services
from marketplace.jobs.models import Job
from tests.cast import listed_version, report_finished


@pytest.fixture
def theirs(market, make_client):
    """What Alice and Bob have and Charlie may not see: values for the parameters of routes."""
    private = listed_version(
        market.vendor, market.licence, market.sam, name="secret", visibility="private"
    )
    job, _ = services.job_submit(org=market.developer, ref=market.ref, given={"prompt": "x"})
    file = make_client().files.create(io.BytesIO(b"x"))
    return {
        "job_id": [job.pk], "file_id": [file.id], "owner": ["atelier"],
        "name": ["secret"], "version_id": [private.pk],
        "slug": ["text-to-image"], "token": ["x" * 40],
    }  # fmt: skip


def test_lists_hold_ones_own_only(market, theirs, make_client):
    stranger = make_client(market.stranger_secret)
    assert stranger.predictions.list().results == []
    assert stranger.files.list() == []
    assert [row.name for row in stranger.models.list()] == ["sketch"]
    assert stranger.webhooks.default.secret().key == market.stranger.webhook_secret
    assert stranger.accounts.current().username == "charlie"


def test_a_private_version_is_not_called_by_its_id(market, theirs):
    answer = httpx.post(
        f"{market.url}/replicate/v1/predictions",
        headers={"Authorization": f"Bearer {market.stranger_secret}"},
        json={"version": str(theirs["version_id"][0]), "input": {"prompt": "x"}},
    )
    assert answer.status_code == 404


def test_a_limited_key_does_not_read_the_secret(market):
    from marketplace.accounts import services as accounts

    for extra in ({"scopes": ["run", "read"]}, {"scopes": ["admin"], "monthly_budget_nano": 10}):
        _, secret = accounts.api_key_create(org=market.developer, name="small", **extra)
        answer = httpx.get(
            f"{market.url}/replicate/v1/webhooks/default/secret",
            headers={"Authorization": f"Bearer {secret}"},
        )
        assert answer.status_code == 403


def test_the_outputs_of_a_call_are_its_owners(market, theirs):
    job = Job.objects.get()
    services.job_finished(report_finished(job))
    for secret, status in ((market.secret, 200), (market.stranger_secret, 404)):
        answer = httpx.get(
            f"{market.url}/replicate/v1/predictions/{job.pk}",
            headers={"Authorization": f"Bearer {secret}"},
        )
        assert answer.status_code == status
