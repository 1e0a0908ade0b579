"""Signed-in clients of the cast, for tests of the pages."""

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from tests.cast import Cast, report_failed, report_finished, report_started
from tests.receiver import receiver

__all__ = ["receiver"]


@pytest.fixture(autouse=True)
def plain_static_files(settings: Any) -> None:
    """Name static files as they lie: collecting them is not what these tests are about."""
    settings.STORAGES = {
        **settings.STORAGES,
        "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
    }


def signed_in(user: Any) -> Client:
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def visitor(db: None) -> Client:
    return Client()


@pytest.fixture
def alice(cast: Cast) -> Client:
    """The vendor's owner."""
    return signed_in(cast.alice)


@pytest.fixture
def bob(cast: Cast) -> Client:
    """The developer's owner."""
    return signed_in(cast.bob)


@pytest.fixture
def charlie(cast: Cast) -> Client:
    """A stranger with an organisation of his own."""
    return signed_in(cast.charlie)


@pytest.fixture
def dora(cast: Cast) -> Client:
    """A member of Bob's organisation who may only see to its billing."""
    from marketplace.accounts.models import Membership, Role
    from tests.cast import person

    user = person("dora")
    Membership.objects.create(org=cast.developer, user=user, role=Role.BILLING)
    return signed_in(user)


@pytest.fixture
def make_job(cast: Cast) -> Callable[..., Any]:
    """Return a function that makes a job of Bob's in a given state, by its services.

    No message is sent: no worker listens in these tests.
    """
    from marketplace.jobs import services
    from marketplace.jobs.models import Job

    def make(status: str = "succeeded", **given: Any) -> Job:
        given.setdefault("prompt", "a red circle")
        made, _ = services.job_submit(
            org=cast.developer, ref=cast.ref, given=given, api_key=cast.key
        )
        job = Job.objects.select_related("version__model__org").get(pk=made.pk)
        if status != "queued":
            services.job_started(report_started(job))
        if status == "succeeded":
            services.job_finished(report_finished(job, count=given.get("num_images", 1)))
        elif status == "failed":
            services.job_failed(report_failed(job, "out_of_memory"))
        job.refresh_from_db()
        return job

    return make
