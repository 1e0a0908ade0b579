"""Each page answers its members, sends visitors to sign in, and hides from outsiders."""

import pytest

from marketplace.jobs.models import JobStatus
from tests.cast import person

MEMBERS = [
    "/dashboard/",
    "/dashboard/jobs/",
    "/dashboard/jobs/?status=failed",
    "/dashboard/keys/",
    "/dashboard/usage/",
    "/dashboard/usage/?period=last",
    "/dashboard/webhooks/",
    "/dashboard/audit/",
    "/dashboard/billing/",
    "/dashboard/budgets/",
    "/dashboard/billing/profile/",
    "/dashboard/billing/recharge/",
    "/dashboard/team/",
    "/dashboard/settings/",
    "/dashboard/organisations/new/",
    "/vendor/",
    "/vendor/models/new/",
    "/vendor/licences/",
    "/vendor/earnings/",
    "/accounts/email/",
    "/accounts/2fa/",
    "/accounts/password/change/",
]
OWN_OF_ALICE = [
    "/vendor/models/sketch/",
    "/vendor/models/sketch/versions/new/",
    "/vendor/models/sketch/versions/1/",
]
PUBLIC = [
    "/",
    "/?q=sketch&task=text-to-image",
    "/models/atelier/sketch/",
    "/vendors/atelier/",
    "/pricing/",
    "/docs/",
    "/docs/quickstart/",
    "/docs/keys/",
    "/docs/jobs/",
    "/docs/account/",
    "/docs/billing/",
    "/docs/pricing/",
    "/docs/licences/",
    "/docs/vendors/",
    "/docs/engine/",
    "/docs/self-hosting/",
    "/docs/inputs/",
    "/docs/weights/",
    "/docs/worker-settings/",
    "/docs/api/",
    "/accounts/login/",
    "/accounts/signup/",
    "/accounts/password/reset/",
]


@pytest.mark.parametrize("path", PUBLIC)
def test_everybody_reads_public_pages(cast, visitor, charlie, path):
    assert visitor.get(path).status_code == 200
    if not path.startswith("/accounts/"):
        assert charlie.get(path).status_code == 200


@pytest.mark.parametrize("path", MEMBERS)
def test_a_member_sees_their_pages(bob, make_job, path):
    make_job()
    assert bob.get(path).status_code == 200


@pytest.mark.parametrize("path", MEMBERS + OWN_OF_ALICE)
def test_a_visitor_is_sent_to_sign_in(cast, visitor, path):
    answer = visitor.get(path)
    assert answer.status_code == 302
    assert answer["Location"].startswith("/accounts/login/?next=/")


@pytest.mark.parametrize("path", OWN_OF_ALICE)
def test_a_vendors_pages_are_their_own(alice, bob, path):
    assert alice.get(path).status_code == 200
    assert bob.get(path).status_code == 404


@pytest.mark.parametrize("status", ["queued", "running", "succeeded", "failed"])
def test_a_job_is_shown_to_its_organisation_alone(bob, charlie, alice, make_job, status):
    path = f"/dashboard/jobs/{make_job(status).pk}/"
    assert bob.get(path).status_code == 200
    assert charlie.get(path).status_code == 404
    assert alice.get(path).status_code == 404


def test_a_stranger_cannot_cancel_a_job(charlie, make_job):
    job = make_job("queued")
    assert charlie.post(f"/dashboard/jobs/{job.pk}/cancel/").status_code == 404
    job.refresh_from_db()
    assert job.status == JobStatus.QUEUED
    assert job.cancel_requested_at is None


def test_a_private_model_is_shown_to_its_vendor_alone(cast, alice, bob, visitor):
    cast.version.model.visibility = "private"
    cast.version.model.save()
    assert alice.get("/models/atelier/sketch/").status_code == 200
    assert bob.get("/models/atelier/sketch/").status_code == 404
    assert visitor.get("/models/atelier/sketch/").status_code == 404
    assert b"Sketch" not in visitor.get("/").content


def test_an_unknown_address_has_a_page_of_its_own(visitor):
    answer = visitor.get("/no/such/page/")
    assert answer.status_code == 404
    assert b"nothing at this address" in answer.content


def test_the_page_of_a_fault_needs_no_database(rf):
    from marketplace.fallback import server_error

    # Without the `db` fixture pytest-django refuses every query.
    answer = server_error(rf.get("/dashboard/"))
    assert answer.status_code == 500
    assert b"Something broke" in answer.content


def test_somebody_without_an_organisation_is_asked_to_found_one(client, db):
    client.force_login(person("nobody"))
    assert client.get("/dashboard/")["Location"] == "/dashboard/organisations/new/"
    client.post("/dashboard/organisations/new/", {"name": "Nobody & Sons"})
    assert client.get("/dashboard/").status_code == 200
