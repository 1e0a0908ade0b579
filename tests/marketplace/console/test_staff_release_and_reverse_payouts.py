"""Staff release large payouts and take money back; the right to look is not the right to act."""

import uuid
from datetime import UTC, date, datetime

import pytest
from django.contrib.auth.models import Permission
from django.test import Client
from django.utils import timezone

from billing.models import Payout, Transfer
from billing.statements.close import statement_close
from tests.billing.statements.market import buyer, call, payout_account
from tests.cast import person, staff_sign_in

USD = 10**9


@pytest.fixture
def payout(cast, monkeypatch, settings):
    settings.PAYOUT_REVIEW_CENTS = 100
    settings.STRIPE_API_KEY = ""
    payout_account(cast.vendor)
    payer = buyer("fred", prepaid=100 * USD)
    call(payer, 10 * USD, [(cast.vendor, 8000)], datetime(2026, 11, 20, tzinfo=UTC))
    monkeypatch.setattr(timezone, "now", lambda: datetime(2026, 12, 4, tzinfo=UTC))
    statement_close(org_id=cast.vendor.pk, month=date(2026, 11, 1))
    return Payout.objects.get()


def act(client, payout, action, **fields):
    return client.post(
        "/console/billing/payout/",
        {
            "action": action,
            "_selected_action": str(payout.pk),
            "nonce": str(uuid.uuid4()),
            **fields,
        },
        follow=True,
    )


def test_staff_approve_a_large_payout(client, cast, payout):
    staff_sign_in(client, cast.sam)
    assert "will be sent" in act(client, payout, "approve").content.decode()
    payout.refresh_from_db()
    assert (payout.needs_approval, payout.approved_by) == (False, cast.sam)
    assert "does not wait for approval" in act(client, payout, "approve").content.decode()


def test_looking_is_not_acting(cast, payout):
    stan = person("stan", is_staff=True)
    stan.user_permissions.set(Permission.objects.filter(codename="view_payout"))
    client = Client()
    staff_sign_in(client, stan)
    assert "S202611-000001" in client.get("/console/billing/payout/").content.decode()
    act(client, payout, "approve")
    payout.refresh_from_db()
    assert payout.needs_approval


def test_what_was_not_sent_cannot_be_reversed(client, cast, payout):
    staff_sign_in(client, cast.sam)
    said = act(client, payout, "reverse", reverse_usd="3").content.decode()
    assert "has no key here" in said or "has not been sent" in said
    assert "say how much" in act(client, payout, "reverse").content.decode()
    assert not Transfer.objects.filter(kind="payout_return").exists()


def test_statements_and_accounts_are_shown(client, cast, payout):
    staff_sign_in(client, cast.sam)
    assert "$8.00" in client.get("/console/billing/statement/").content.decode()
    page = client.get(f"/console/billing/statement/{payout.pk}/change/").content.decode()
    assert "atelier/model" in page
    assert "acct_atelier" in client.get("/console/billing/payoutaccount/").content.decode()
