"""A vendor's statements, files and payout account on the pages; nobody else sees them."""

import csv
import io
import uuid
from datetime import UTC, date, datetime

import pytest
from django.core.cache import cache
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from billing import connect
from billing.models import Payout, PayoutAccount
from billing.statements.close import statement_close
from tests.billing.statements.market import buyer, call, payout_account, refund
from tests.stripe_standin import shared_standin, standin

__all__ = ["shared_standin", "standin"]
MONTH = date(2026, 11, 1)
USD = 10**9


@pytest.fixture
def statement(cast, monkeypatch):
    """Alice's November: two calls paid by Fred of France, one given back in part."""
    payer = buyer("fred", prepaid=100 * USD, country="FR")
    usage = datetime(2026, 11, 20, tzinfo=UTC)
    given_back = call(payer, 10 * USD, [(cast.vendor, 8000)], usage)
    call(payer, 20 * USD + 3, [(cast.vendor, 8000)], usage)
    refund(given_back, datetime(2026, 11, 21, tzinfo=UTC), 5 * USD)
    payout_account(cast.vendor)
    monkeypatch.setattr(timezone, "now", lambda: datetime(2026, 12, 4, tzinfo=UTC))
    return statement_close(org_id=cast.vendor.pk, month=MONTH)


def body(answer):
    return b"".join(answer)


def test_a_vendor_reads_a_statement(alice, statement):
    assert f"/vendor/statements/{statement.pk}/" in alice.get("/vendor/earnings/").content.decode()
    page = alice.get(f"/vendor/statements/{statement.pk}/").content.decode()
    for text in ("S202611-000001", "$24.000000002", "$4.00", "$20.00", "FR", "atelier/model"):
        assert text in page
    assert "Being sent" in page
    Payout.objects.update(needs_approval=True)
    page = alice.get(f"/vendor/statements/{statement.pk}/").content.decode()
    assert "Waits for a look by staff" in page


def test_the_csv_explains_every_nano_dollar(alice, statement):
    answer = alice.get(f"/vendor/statements/{statement.pk}.csv")
    assert answer["Content-Type"] == "text/csv"
    assert "S202611-000001.csv" in answer["Content-Disposition"]
    rows = list(csv.DictReader(io.StringIO(body(answer).decode())))
    assert [row["kind"] for row in rows] == ["share", "share", "refund_share"]
    total = sum(int(row["amount_nano_usd"]) for row in rows)
    assert total == statement.earned_nano - statement.clawed_back_nano
    for row in rows[:2]:
        explained = int(row["gross_charge_nano_usd"]) * int(row["share_bps"]) // 10_000
        assert explained == int(row["amount_nano_usd"])
    assert rows[2]["job_id"] in {row["job_id"] for row in rows[:2]}
    assert {row["payer_country"] for row in rows} == {"FR"}


def test_the_pdf_is_a_pdf(alice, statement):
    answer = alice.get(f"/vendor/statements/{statement.pk}.pdf")
    assert answer["Content-Type"] == "application/pdf"
    assert answer.content.startswith(b"%PDF-")
    assert len(answer.content) > 5_000


@pytest.mark.parametrize("tail", ["/", ".csv", ".pdf"])
def test_a_statement_is_its_vendors_own(charlie, visitor, bob, statement, tail):
    path = f"/vendor/statements/{statement.pk}{tail}"
    assert charlie.get(path).status_code == 404
    assert bob.get(path).status_code == 404
    assert visitor.get(path).status_code == 302
    assert charlie.get(f"/vendor/statements/{uuid.uuid4()}{tail}").status_code == 404
    assert statement.number not in charlie.get("/vendor/earnings/").content.decode()


def test_what_is_pending_or_not_paid_says_why(alice, cast, monkeypatch):
    payer = buyer("pat", limit=100 * USD)
    monkeypatch.setattr(timezone, "now", lambda: datetime(2026, 11, 20, tzinfo=UTC))
    call(payer, 10 * USD, [(cast.vendor, 8000)], datetime(2026, 11, 20, tzinfo=UTC))
    page = alice.get("/vendor/earnings/").content.decode()
    assert "$8.00" in page
    assert "invoices for it are not issued yet" in page


def test_a_vendor_sets_the_minimum_and_others_do_not(alice, dora, cast):
    assert alice.post("/vendor/payouts/", {"minimum": "50.00"}).status_code == 302
    assert PayoutAccount.objects.get(org=cast.vendor).minimum_cents == 5000
    wrong = alice.post("/vendor/payouts/", {"minimum": "0.50"})
    assert wrong.status_code == 422
    assert "$1.00 to $10,000.00" in wrong.content.decode()
    assert dora.post("/vendor/payouts/", {"minimum": "7"}).status_code == 302
    assert PayoutAccount.objects.get(org=cast.vendor).minimum_cents == 5000
    assert PayoutAccount.objects.get(org=cast.developer).minimum_cents == 700


def test_without_stripe_the_page_says_so(alice, cast, settings):
    settings.STRIPE_API_KEY = ""
    page = alice.get("/vendor/payouts/").content.decode()
    assert "not set up on this installation" in page
    answer = alice.post("/vendor/payouts/connect/", {"country": "FR"}, follow=True)
    assert "Stripe has no key here" in answer.content.decode()


def test_a_developer_role_may_not_touch_the_account(cast, alice):
    from django.test import Client

    from marketplace.accounts.models import Membership, Role
    from tests.cast import person

    eve = person("eve")
    Membership.objects.create(org=cast.vendor, user=eve, role=Role.DEVELOPER)
    client = Client()
    client.force_login(eve)
    assert client.get("/vendor/payouts/").status_code == 200
    assert client.post("/vendor/payouts/", {"minimum": "50"}).status_code == 403
    assert client.post("/vendor/payouts/connect/", {"country": "FR"}).status_code == 403


def test_sums_over_all_history_are_read_once_a_minute(alice, cast):
    def reads():
        with CaptureQueriesContext(connection) as queries:
            assert "$8.00" in alice.get("/vendor/earnings/").content.decode()
        return sum("billing_transfer" in query["sql"] for query in queries)

    call(buyer("pat", limit=100 * USD), 10 * USD, [(cast.vendor, 8000)], timezone.now())
    first = reads()
    assert reads() == first - 2
    cache.delete(f"earnings:{cast.vendor.pk}")
    assert reads() == first


def test_coming_back_from_stripe_asks_it_only_for_who_may_change_the_account(
    cast, alice, settings, standin
):
    from django.test import Client

    from marketplace.accounts.models import Membership, Role
    from tests.cast import person

    settings.STRIPE_API_KEY, settings.STRIPE_API_BASE = "sk_test_x", standin.url
    page = "http://127.0.0.1/vendor/payouts/"
    url = connect.onboarding_begin(org=cast.vendor, country="FR", page_url=page)
    assert standin.raw("POST", url.removeprefix(standin.url), "{}").status == 200
    eve = person("eve")
    Membership.objects.create(org=cast.vendor, user=eve, role=Role.DEVELOPER)
    client = Client()
    client.force_login(eve)
    assert client.get("/vendor/payouts/?from=stripe")["Location"] == "/vendor/payouts/"
    account = PayoutAccount.objects.get(org=cast.vendor)
    assert not account.enabled
    alice.get("/vendor/payouts/?from=stripe")
    account.refresh_from_db()
    assert account.enabled
