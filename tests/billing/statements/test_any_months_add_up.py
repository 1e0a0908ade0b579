"""Random months: whatever is earned, refunded, invoiced and paid, each nano-dollar is stated once.

The rules of the ledger (`billing/statements/rules.py`) are checked after every month.
"""

import random
from datetime import UTC, date, datetime, timedelta

import pytest
from django.db import transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from billing.invariants import audit
from billing.models import (
    Charge,
    Invoice,
    InvoiceStatus,
    Payout,
    PayoutAccount,
    PayoutState,
    Statement,
    StatementEntry,
    Transfer,
)
from billing.months import next_month, previous_month
from billing.payouts import payout_record, reversal_record
from billing.refunds import refundable
from billing.statements.close import statement_preview, statements_close
from billing.statements.draft import CENT_NANO, payout_decide
from billing.stripe.records_connect import Reversal
from billing.stripe.records_connect import Transfer as Sent
from tests.billing.statements.market import (
    any_amount,
    buyer,
    call,
    invoice,
    organisation,
    paid,
    payout_account,
    refund,
)

USD = 10**9


class World:
    """Two vendors, two payers, and a seeded month after month of what people do."""

    def __init__(self, seed: int, at) -> None:
        self.rng, self.at = random.Random(seed), at
        self.month = date(2026, 1, 1)
        self.vendors = [organisation(f"v{n}-{seed}") for n in range(2)]
        self.payers = [
            buyer(f"p{n}-{seed}", prepaid=200 * USD * n, limit=10**4 * USD, country=country)
            for n, country in enumerate(["DE", "FR"])
        ]

    def moment(self) -> datetime:
        start = datetime(self.month.year, self.month.month, 1, tzinfo=UTC)
        return start + timedelta(seconds=self.rng.randrange(27 * 86400))

    def live(self) -> None:
        """One month of calls, refunds, accounts, payments and answers of Stripe."""
        rng = self.rng
        for _ in range(rng.randrange(1, 9)):
            seller, other = rng.sample(self.vendors, 2)
            shares = [(seller, rng.randrange(0, 8000)), (other, rng.randrange(0, 2000))]
            call(rng.choice(self.payers), any_amount(rng), shares, self.moment())
        for charge in Charge.objects.order_by("source_id"):
            left = refundable(charge)
            if left and rng.random() < 0.2:
                moment = max(self.moment(), charge.occurred_at)
                refund(charge, moment, rng.choice([left, rng.randint(1, left)]))
        for vendor in self.vendors:
            chance = rng.random()
            if chance < 0.8:
                PayoutAccount.objects.filter(org=vendor).delete()
                payout_account(
                    vendor, minimum=rng.choice([1, 1, 100, 2500]), enabled=rng.random() < 0.8
                )
        self.month = next_month(self.month)
        self.at(f"{self.month}T06:00")
        for payer in self.payers:
            if rng.random() < 0.8:
                invoice(payer, previous_month(self.month))
        for found in Invoice.objects.filter(status=InvoiceStatus.OPEN):
            if rng.random() < 0.6:
                paid(found)

    def close(self) -> None:
        """Close the month that ended; twice, for nothing may come of the second time."""
        ended = previous_month(self.month)
        expected = {vendor.pk: statement_preview(vendor.pk, ended) for vendor in self.vendors}
        closed = {row.org_id: row for row in statements_close(month=ended)}
        assert not list(statements_close(month=ended))
        for vendor, draft in expected.items():
            if draft.has_news:
                row = closed[vendor]
                assert row.earned_nano == draft.earned_nano
                assert row.carried_out_nano == draft.carried_out_nano
                assert row.pending_nano == draft.pending_nano
                assert row.lines.count() == len(draft.lines)
            else:
                assert vendor not in closed

    def pay(self) -> None:
        """Stripe answers some payouts, and some are taken back."""
        for payout in Payout.objects.all():
            if payout.state == PayoutState.INTENT and self.rng.random() < 0.7:
                payout_record(payout.pk, sent(payout))
                assert not payout_record(payout.pk, sent(payout))
            elif payout.state == PayoutState.SENT and self.rng.random() < 0.2:
                left = payout.cents - payout.reversed_cents
                made = Reversal(f"trr_{payout.pk}_{left}", self.rng.randint(1, left), "tr")
                assert reversal_record(payout.pk, made)
                assert not reversal_record(payout.pk, made)


def sent(payout: Payout) -> Sent:
    return Sent(f"tr_{payout.pk}", payout.cents, 0, "usd", "acct", str(payout.pk), 0)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.django_db
@settings(
    max_examples=12, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
@given(seed=st.integers(0, 10**9))
def test_any_months_keep_every_rule(at, seed):
    with transaction.atomic():
        months(at, seed)
        transaction.set_rollback(True)


@pytest.mark.django_db
@pytest.mark.parametrize("seed", [2, 3])
def test_some_months_keep_every_rule(at, seed):
    months(at, seed)
    assert Statement.objects.exists()
    assert Payout.objects.exists()


def months(at, seed):
    at("2026-01-01")
    world = World(seed, at)
    for _ in range(5):
        world.live()
        world.close()
        world.pay()
        broken = [found for found in audit() if found.rows]
        assert not broken, broken
    everything_is_stated_once_all_is_paid(world)


def everything_is_stated_once_all_is_paid(world: World) -> None:
    """With every invoice paid and a last close, nothing is pending and each row has its place."""
    world.month = next_month(world.month)
    world.at(f"{world.month}T06:00")
    for payer in world.payers:
        invoice(payer, previous_month(world.month))
    for found in Invoice.objects.filter(status=InvoiceStatus.OPEN):
        paid(found)
    world.close()
    rows = Transfer.objects.filter(kind__in=["share", "refund_share", "payout_return"])
    assert StatementEntry.objects.count() == rows.count()
    last = Statement.objects.order_by("org_id", "-month").distinct("org_id")
    assert all(row.pending_nano == 0 for row in last)


@given(
    payable=st.integers(-(10**13), 10**13),
    minimum=st.integers(0, 10**6),
    enabled=st.booleans(),
    there=st.booleans(),
)
def test_a_decision_pays_all_whole_cents_or_nothing_with_a_reason(payable, minimum, enabled, there):
    account = PayoutAccount(
        stripe_account_id="acct" if there else "", enabled=enabled, minimum_cents=minimum
    )
    cents, reason = payout_decide(payable, account)
    assert cents * CENT_NANO <= max(payable, 0)
    if cents:
        assert payable - cents * CENT_NANO < CENT_NANO
        assert enabled
        assert there
        assert cents >= minimum
        assert reason == ""
    else:
        assert bool(reason) == (payable != 0)
