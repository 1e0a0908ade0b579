"""What an expired grant has left goes back to the platform, what a job holds when that ends."""

import uuid
from datetime import timedelta

import pytest
from django import forms

from billing import services, tasks
from billing.models import Grant
from billing.rating import Rating
from billing.selectors import balance_of, grants_of
from marketplace.core.clock import now
from marketplace.dashboard.adapter import AccountAdapter
from tests.cast import person


@pytest.fixture
def grant(cast):
    services.credit_grant(
        org_id=cast.stranger.pk, amount_nano=1000, source="g",
        expires_at=now() + timedelta(days=1),
    )  # fmt: skip
    return Grant.objects.get(org=cast.stranger)


def test_an_expired_grant_keeps_only_what_jobs_hold(cast, grant, monkeypatch):
    source = uuid.uuid4()
    services.hold_reserve(source_id=source, org_id=cast.stranger.pk, amount_nano=300)
    later = now() + timedelta(days=2)
    monkeypatch.setattr("django.utils.timezone.now", lambda: later)
    tasks.expire_grants()
    tasks.expire_grants()
    grant.refresh_from_db()
    assert (grant.remaining_nano, grant.held_nano, grant.expiries) == (300, 300, 1)
    services.charge_settle(
        source_id=source, vendor_id=cast.vendor.pk, version_id=cast.version.pk,
        price_id=uuid.uuid4(), rating=Rating(100, ()), shares=[], occurred_at=now(),
    )  # fmt: skip
    tasks.expire_grants()
    grant.refresh_from_db()
    assert (grant.remaining_nano, grant.expiries) == (0, 2)
    assert balance_of(cast.stranger.pk).granted_nano == 0
    assert grants_of(cast.stranger.pk) == []


@pytest.mark.parametrize("days", [30, 0])
def test_the_welcome_credit_lasts_as_long_as_is_set(db, settings, rf, days):
    settings.WELCOME_CREDIT_DAYS = days

    form = forms.Form()
    form.cleaned_data = {"email": "new@example.org", "password1": "correct horse battery"}
    user = person("new")
    AccountAdapter().save_user(rf.post("/"), user, form)
    expires_at = Grant.objects.get(org__memberships__user=user).expires_at
    if days:
        assert abs(expires_at - now() - timedelta(days=days)) < timedelta(minutes=1)
    else:
        assert expires_at is None
