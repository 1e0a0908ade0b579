"""Budgets and balances that run out are told once: by mail, and to the organisation's server."""

import uuid
from datetime import timedelta

import pytest
from django.core import mail

from billing import alerts, services
from billing.models import BillingProfile, SpendAlert
from billing.rating import Rating
from billing.services import Cap
from marketplace.accounts import projects
from marketplace.accounts.endpoints import endpoint_create
from marketplace.accounts.models import Membership, Role
from marketplace.accounts.webhook_models import AccountEvent
from marketplace.core import clock
from marketplace.core.clock import now
from tests.cast import person

pytestmark = pytest.mark.django_db
USD = 10**9


def spend(cast, amount, *caps):
    source = uuid.uuid4()
    services.hold_reserve(source_id=source, org_id=cast.developer.pk, amount_nano=amount, caps=caps)
    services.charge_settle(
        source_id=source,
        vendor_id=cast.vendor.pk,
        version_id=cast.version.pk,
        price_id=uuid.uuid4(),
        rating=Rating(amount, ()),
        shares=[],
        occurred_at=now(),
    )


@pytest.fixture
def project(cast):
    return projects.project_create(org=cast.developer, name="Film", monthly_budget_nano=100_000)


def cap_of(subject):
    return Cap(subject.pk, subject.monthly_budget_nano, "project")


def look():
    """Do what beat does each minute. Return the subjects of the mails that went out."""
    mail.outbox.clear()
    alerts.alerts_raise()
    alerts.alerts_mail()
    return [message.subject.partition("] ")[2] for message in mail.outbox]


def test_each_threshold_is_mailed_once(cast, project):
    spend(cast, 49_999, cap_of(project))
    assert look() == []
    spend(cast, 1, cap_of(project))
    assert look() == ["50 % of the budget of project Film is spent"]
    assert mail.outbox[0].to == ["bob@example.org"]
    assert "$0.00005" in mail.outbox[0].body
    assert look() == []
    spend(cast, 30_000, cap_of(project))
    assert look() == ["80 % of the budget of project Film is spent"]
    spend(cast, 20_000, cap_of(project))
    assert look() == ["100 % of the budget of project Film is spent"]
    assert look() == []


def test_a_refused_call_tells_that_the_budget_is_used_up(cast, project):
    spend(cast, 60_000, cap_of(project))

    def refused(quote):
        return alerts.budget_refused(
            subject_id=project.pk, quote_nano=quote, budget_nano=project.monthly_budget_nano
        )

    assert not refused(100_001), "it would not fit into an unused budget either"
    assert refused(50_000)
    assert not refused(50_000)
    assert look() == ["A call did not fit into the budget of project Film"]
    assert "did not fit into what is left" in mail.outbox[0].body
    assert "Not spent: $0.00004, some of which" in mail.outbox[0].body
    spend(cast, 39_000, cap_of(project))
    assert look() == [], "lower thresholds are past"


def test_of_thresholds_crossed_together_the_highest_is_told(cast, project):
    spend(cast, 85_000, cap_of(project))
    assert look() == ["80 % of the budget of project Film is spent"]
    assert sorted(SpendAlert.objects.values_list("percent", flat=True)) == [50, 80]


def test_the_next_month_is_told_anew(cast, project, monkeypatch):
    spend(cast, 60_000, cap_of(project))
    assert len(look()) == 1
    later = now() + timedelta(days=32)
    monkeypatch.setattr("django.utils.timezone.now", lambda: later)
    assert clock.now() == later
    assert look() == []
    spend(cast, 60_000, cap_of(project))
    assert len(look()) == 1


def test_budgets_of_organisation_and_key_are_watched_too(cast):
    projects.organisation_budget_set(org=cast.developer, monthly_budget_nano=1_000)
    cast.key.monthly_budget_nano = 1_000
    cast.key.save()
    spend(cast, 1_000, cap_of(cast.developer), cap_of(cast.key))
    assert sorted(look()) == [
        "100 % of the budget of key test is spent",
        "100 % of the budget of organisation Bob's Builders is spent",
    ]


def test_the_billing_address_goes_before_the_members(cast, project):
    Membership.objects.create(org=cast.developer, user=person("dora"), role=Role.BILLING)
    Membership.objects.create(org=cast.developer, user=person("eve"), role=Role.DEVELOPER)
    assert alerts.recipients_of(cast.developer.pk) == ["bob@example.org", "dora@example.org"]
    BillingProfile.objects.create(org=cast.developer, email="money@example.org")
    assert alerts.recipients_of(cast.developer.pk) == ["money@example.org"]


def test_the_server_is_told_what_the_mail_says(cast, project):
    endpoint_create(org=cast.developer, url="https://example.org/hook")
    spend(cast, 85_000, cap_of(project))
    look()
    look()
    event = AccountEvent.objects.get()
    assert (event.event, event.org_id) == ("budget.alert", cast.developer.pk)
    assert event.payload["type"] == "budget.alert"
    assert event.payload["data"] == {
        "budget_of": "project",
        "id": str(project.pk),
        "subject": "project Film",
        "month": f"{now():%Y-%m}",
        "percent": 80,
        "spent_nano_usd": 85_000,
        "budget_nano_usd": 100_000,
        "refused": False,
    }


def test_a_mail_that_fails_is_sent_at_the_next_run(cast, project, monkeypatch):
    from django.core.mail import EmailMessage

    def refuse(self):
        raise ConnectionRefusedError("no mail server")

    spend(cast, 50_000, cap_of(project))
    with monkeypatch.context() as patch:
        patch.setattr(EmailMessage, "send", refuse)
        assert look() == []
    assert SpendAlert.objects.get().mailed_at is None
    assert len(look()) == 1
    assert SpendAlert.objects.get().mailed_at is not None


def test_a_low_balance_is_told_once_until_it_recovers(cast):
    alerts.alert_below_set(org_id=cast.developer.pk, below_nano=USD // 2)
    assert look() == []
    spend(cast, USD * 6 // 10)
    assert look() == ["The balance of Bob's Builders is low"]
    assert "$0.40 is left" in mail.outbox[0].body
    assert look() == []
    services.credit_top_up(org_id=cast.developer.pk, amount_nano=USD, source="more")
    assert look() == []
    spend(cast, USD)
    assert look() == ["The balance of Bob's Builders is low"]


def test_money_that_is_only_held_is_not_gone(cast):
    alerts.alert_below_set(org_id=cast.developer.pk, below_nano=USD // 2)
    services.hold_reserve(
        source_id=uuid.uuid4(), org_id=cast.developer.pk, amount_nano=USD * 9 // 10
    )
    assert look() == []


def test_a_budget_of_nothing_and_an_archived_project_are_silent(cast, project):
    projects.organisation_budget_set(org=cast.developer, monthly_budget_nano=0)
    spend(cast, 90_000, cap_of(project))
    projects.project_archive(org=cast.developer, project_id=project.pk)
    assert look() == []


@pytest.mark.parametrize("dies", ["before the commit", "after it"])
def test_a_process_that_dies_leaves_no_half_told_alert(cast, project, monkeypatch, dies):
    endpoint_create(org=cast.developer, url="https://example.org/")
    spend(cast, 50_000, cap_of(project))

    class Died(BaseException):
        pass

    def die(*_, **__):
        raise Died

    at = ("event_create", "alerts_mail")[dies == "after it"]
    with monkeypatch.context() as patch:
        patch.setattr(alerts, at, die)
        with pytest.raises(Died):
            look()
    assert SpendAlert.objects.count() == AccountEvent.objects.count() == (dies == "after it")
    assert len(look()) == 1
    assert SpendAlert.objects.count() == AccountEvent.objects.count() == 1
