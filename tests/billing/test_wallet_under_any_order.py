"""Whatever is done to a wallet in whatever order, it pays as a plain wallet of integers would."""

import uuid
from datetime import UTC, datetime, timedelta

import pytest
from django.db import DatabaseError, connection, transaction
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from billing import services, wallets
from billing.invariants import audit
from billing.models import (
    AccountKind,
    Charge,
    Draw,
    Grant,
    Hold,
    SpendCap,
    TransferKind,
)
from billing.rating import Rating
from billing.selectors import balance_of
from billing.services import Cap
from billing.split import Share
from billing.wallets import Why
from marketplace.core.clock import now
from marketplace.core.errors import InsufficientFunds
from tests.billing import plain_wallet

pytestmark = pytest.mark.django_db
AMOUNTS = st.integers(1, 5000)
MODELS = [uuid.UUID(int=1), uuid.UUID(int=2)]
VENDORS = [uuid.UUID(int=3), uuid.UUID(int=4)]
SCOPES = {str(scope): scope for scope in MODELS + VENDORS}
SUBJECTS = [
    (name, uuid.UUID(int=n)) for n, name in enumerate(("organisation", "project", "key"), 5)
]

INVOICED = "what calls and invoices say is owed is in the ledger"
"""Debts come and go here with no invoice behind them."""


class Clock:
    """The time that everything sees."""

    def __init__(self):
        self.at = datetime(2027, 1, 20, 12, tzinfo=UTC)


class WalletMachine(RuleBasedStateMachine):
    """Does each step to the database and to the plain wallet, and compares."""

    def __init__(self, cast, clock):
        super().__init__()
        self.cast, self.org, self.clock = cast, cast.stranger, clock
        clock.at = Clock().at
        self.plain = plain_wallet.PlainWallet()
        self.limits = dict.fromkeys((subject for _, subject in SUBJECTS), 9000)
        self.ended = []
        self.made = 0
        self.atomic = transaction.atomic()
        self.atomic.__enter__()

    def fresh(self):
        """Return a new id, the same in each run of the same steps: what is drawn depends on it."""
        self.made += 1
        return uuid.UUID(int=self.made)

    def teardown(self):
        try:
            if not connection.needs_rollback:
                broken = [f for f in audit() if f.rows and f.rule != INVOICED]
                assert not broken, broken
        finally:
            transaction.set_rollback(True)
            self.atomic.__exit__(None, None, None)

    @rule(amount=AMOUNTS)
    def top_up(self, amount):
        source = self.fresh().hex
        for is_new in (True, False):
            assert is_new is services.credit_top_up(
                org_id=self.org.pk, amount_nano=amount, source=source
            )
        self.plain.prepaid += amount

    @rule(
        amount=AMOUNTS,
        priority=st.sampled_from([0, 50, 100]),
        days=st.sampled_from([None, 1, 10, 40]),
        scope=st.sampled_from([None, *SCOPES]),
    )
    def grant(self, amount, priority, days, scope):
        source = self.fresh().hex
        expires_at = None if days is None else now() + timedelta(days=days)
        only = {}
        if scope is not None:
            only["model_id" if SCOPES[scope] in MODELS else "vendor_id"] = SCOPES[scope]
        for is_new in (True, False):
            assert is_new is services.credit_grant(
                org_id=self.org.pk,
                amount_nano=amount,
                source=source,
                priority=priority,
                expires_at=expires_at,
                **only,
            )
        made = services.derived_id("grant", source)
        self.plain.grants.append(plain_wallet.Grant(made, amount, priority, expires_at, scope))

    @rule(days=st.floats(0.1, 25))
    def time_passes(self, days):
        self.clock.at += timedelta(days=days)

    @rule()
    def expire(self):
        assert wallets.grants_expire() == self.plain.expire(now())

    @rule(limit=st.integers(0, 6000))
    def set_limit(self, limit):
        wallets.credit_limit_set(org_id=self.org.pk, limit_nano=limit)
        self.plain.limit = limit

    @rule(subject=st.sampled_from(SUBJECTS), limit=st.integers(0, 12000))
    def set_budget(self, subject, limit):
        self.limits[subject[1]] = limit

    @rule(count=st.sampled_from([1, 2, 3, 8]))
    def set_shards(self, count):
        wallets.shard_count_set(org_id=self.org.pk, count=count)

    @rule()
    def rebalance(self):
        wallets.lopsided_rebalance()

    @rule(amount=st.integers(-3000, 3000).filter(bool))
    def change_prepaid(self, amount):
        kind = TransferKind.DISPUTE_WON if amount > 0 else TransferKind.TOP_UP_RETURN
        self._change(wallets.prepaid_change, "prepaid", kind, AccountKind.CASH, amount)

    @rule(amount=st.integers(-3000, 3000).filter(bool))
    def change_owed(self, amount):
        kind = TransferKind.ROUNDING if amount > 0 else TransferKind.PAYMENT
        against = AccountKind.ROUNDING if amount > 0 else AccountKind.CASH
        self._change(wallets.owed_change, "owed", kind, against, amount)

    def _change(self, change, name, kind, against, amount):
        arguments = {
            "org_id": self.org.pk,
            "why": Why(kind, self.fresh()),
            "against": against,
            "change_nano": amount,
        }
        after = getattr(self.plain, name) + amount
        if after < 0:
            with pytest.raises(ValueError, match="less"), transaction.atomic():
                change(**arguments)
            return
        assert change(**arguments)
        assert not change(**arguments), "once per source"
        setattr(self.plain, name, after)

    @rule(
        amount=st.one_of(st.just(0), AMOUNTS),
        model=st.sampled_from(MODELS),
        vendor=st.sampled_from(VENDORS),
        subjects=st.sets(st.sampled_from(SUBJECTS)),
    )
    def reserve(self, amount, model, vendor, subjects):
        source = self.fresh()
        caps = {subject: self.limits[subject] for _, subject in subjects}
        names = {subject: name for name, subject in SUBJECTS}
        try:
            self.plain.reserve(source, amount, caps, now(), {str(model), str(vendor)})
            refused = None
        except plain_wallet.Refused as error:
            refused = error.args[0]
        budgets = [Cap(subject, limit, names[subject]) for subject, limit in caps.items()]
        found = None
        try:
            with transaction.atomic():
                services.hold_reserve(
                    source_id=source,
                    org_id=self.org.pk,
                    amount_nano=amount,
                    caps=budgets,
                    model_id=model,
                    vendor_id=vendor,
                )
        except InsufficientFunds as error:
            found = error.extra.get("budget_of", "funds")
        assert found == names.get(refused, refused)

    @precondition(lambda self: self.plain.holds)
    @rule(data=st.data(), percent=st.integers(0, 100))
    def settle(self, data, percent):
        source = data.draw(st.sampled_from(sorted(self.plain.holds)))
        amount = self.plain.holds[source].amount * percent // 100
        paid = self.plain.settle(source, amount)
        assert self._settle(source, amount)
        self.ended.append(source)
        assert Hold.objects.get(pk=source).state == ("captured" if amount else "released")
        charge = Charge.objects.get(pk=source)
        assert (charge.amount_nano, charge.prepaid_nano) == (amount, paid.prepaid)
        assert charge.postpaid_nano == paid.postpaid
        draws = Draw.objects.filter(source=source, captured_nano__gt=0).order_by("position")
        assert list(draws.values_list("grant_id", "captured_nano")) == paid.grants

    @precondition(lambda self: self.ended)
    @rule(data=st.data())
    def settle_again(self, data):
        assert not self._settle(data.draw(st.sampled_from(self.ended)), 0)

    @precondition(lambda self: self.plain.holds)
    @rule(data=st.data())
    def charge_too_much(self, data):
        source = data.draw(st.sampled_from(sorted(self.plain.holds)))
        with pytest.raises(DatabaseError, match="not within the hold"), transaction.atomic():
            self._settle(source, self.plain.holds[source].amount + 1)

    def _settle(self, source, amount):
        return services.charge_settle(
            source_id=source,
            vendor_id=self.cast.vendor.pk,
            version_id=self.cast.version.pk,
            price_id=uuid.uuid4(),
            rating=Rating(amount, ()),
            shares=[
                Share(str(self.cast.vendor.pk), 7000, "v"),
                Share(str(self.cast.developer.pk), 1111, "base"),
            ],
            occurred_at=now(),
        )

    @invariant()
    def the_wallet_is_the_plain_one(self):
        own, plain = balance_of(self.org.pk), self.plain
        free = sum(grant.remaining - grant.held for grant in plain.usable(now(), set()))
        held = plain.held + sum(grant.held for grant in plain.grants)
        assert (own.prepaid_nano, own.owed_nano) == (plain.prepaid, plain.owed)
        assert (own.credit_limit_nano, own.held_nano) == (plain.limit, held)
        assert own.available_nano == plain.available + free
        assert Hold.objects.filter(org=self.org, state="open").count() == len(plain.holds)

    @invariant()
    def every_grant_and_budget_is_the_plain_one(self):
        grants = Grant.objects.filter(org=self.org).values_list("id", "remaining_nano", "held_nano")
        assert {row[0]: row[1:] for row in grants} == {
            grant.id: (grant.remaining, grant.held) for grant in self.plain.grants
        }
        rows = SpendCap.objects.exclude(spent_nano=0, held_nano=0)
        assert {(row.subject_id, row.month): (row.spent_nano, row.held_nano) for row in rows} == {
            row: (self.plain.spent.get(row, 0), held)
            for row, held in self.plain.reserved.items()
            if held or self.plain.spent.get(row, 0)
        }


@pytest.fixture
def clock(monkeypatch):
    moved = Clock()
    monkeypatch.setattr("django.utils.timezone.now", lambda: moved.at)
    return moved


def check(cast, clock, examples, steps):
    run_state_machine_as_test(
        lambda: WalletMachine(cast, clock),
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            phases=[Phase.generate],  # shrinking would outlast the time limit
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_any_order_of_steps_pays_as_the_plain_wallet_does(cast, clock):
    check(cast, clock, 12, 40)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_many_long_orders_of_steps_pay_as_the_plain_wallet_does(cast, clock):
    check(cast, clock, 150, 60)
