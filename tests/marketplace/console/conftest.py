"""Settings of the console's tests."""

from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.test import Client

from billing.models import Charge
from marketplace.accounts.models import User
from marketplace.jobs import services
from tests.cast import person, report_finished, staff_sign_in


@pytest.fixture(autouse=True)
def plain_static_files(settings: Any) -> None:
    """Name static files as they lie: collecting them is not what these tests are about."""
    settings.STORAGES = {
        **settings.STORAGES,
        "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
    }


@pytest.fixture
def sam(client: Any, cast: Any) -> Any:
    """The browser of Sam, a superuser, who has shown a second factor."""
    staff_sign_in(client, cast.sam)
    return client


@pytest.fixture
def staff(cast: Any) -> Any:
    """Return a function that makes a browser of staff with the named permissions only."""

    def make(*codenames: str) -> Client:
        user = person(f"stan{User.objects.count()}", is_staff=True)
        found = Permission.objects.filter(codename__in=codenames)
        assert found.count() == len(codenames)
        user.user_permissions.set(found)
        browser = Client()
        staff_sign_in(browser, user)
        return browser

    return make


@pytest.fixture
def charge(cast: Any) -> Any:
    """A charge of Bob's, of 0.004 USD."""
    job, _ = services.job_submit(org=cast.developer, ref=cast.ref, given={"prompt": "x"})
    services.job_finished(report_finished(job))
    return Charge.objects.get(pk=job.pk)
