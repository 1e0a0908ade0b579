"""A state machine: whatever is reserved, settled, released and credited, the rules hold."""

import uuid

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from billing import services
from billing.invariants import audit
from billing.models import Hold, SpendCap
from billing.rating import Rating
from billing.selectors import balance_of
from billing.services import Cap
from billing.split import Share
from billing.wallets import credit_limit_set
from marketplace.core.clock import now
from marketplace.core.errors import InsufficientFunds

pytestmark = pytest.mark.django_db

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("top_up"), st.integers(1, 5000)),
        st.tuples(st.just("grant"), st.integers(1, 5000)),
        st.tuples(st.just("reserve"), st.integers(0, 3000)),
        st.tuples(st.just("settle"), st.integers(0, 100)),
        st.tuples(st.just("settle again"), st.integers(0, 100)),
        st.tuples(st.just("release"), st.integers(0, 100)),
        st.tuples(st.just("limit"), st.integers(0, 4000)),
    ),
    max_size=25,
)


class Market:
    """Runs steps and keeps a plain-integer model of what must come out."""

    def __init__(self, cast):
        self.cast, self.org = cast, cast.stranger
        self.open, self.ended = {}, []
        self.funds, self.spent = 0, 0
        self.cap = Cap(uuid.uuid4(), 6000)

    def top_up(self, amount):
        assert services.credit_top_up(
            org_id=self.org.pk, amount_nano=amount, source=uuid.uuid4().hex
        )
        self.funds += amount

    def grant(self, amount):
        source = uuid.uuid4().hex
        assert services.credit_grant(org_id=self.org.pk, amount_nano=amount, source=source)
        assert not services.credit_grant(org_id=self.org.pk, amount_nano=amount, source=source)
        self.funds += amount

    def limit(self, amount):
        credit_limit_set(org_id=self.org.pk, limit_nano=amount)

    def reserve(self, amount):
        from django.db import transaction

        source = uuid.uuid4()
        free = balance_of(self.org.pk).available_nano
        held = sum(self.open.values())
        fits = amount == 0 or (amount <= free and self.spent + held + amount <= 6000)
        try:
            with transaction.atomic():
                services.hold_reserve(
                    source_id=source, org_id=self.org.pk, amount_nano=amount, caps=[self.cap]
                )
            assert fits
            self.open[source] = amount
        except InsufficientFunds:
            assert not fits

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

    def settle(self, percent):
        if self.open:
            source, held = self.open.popitem()
            amount = held * percent // 100
            assert self._settle(source, amount)
            self.spent += amount
            self.ended.append(source)

    def settle_again(self, _percent):
        for source in self.ended[-1:]:
            assert not self._settle(source, 0)

    def release(self, _percent):
        if self.open:
            source, _ = self.open.popitem()
            assert self._settle(source, 0)
            self.ended.append(source)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=STEPS)
def test_any_order_of_steps_keeps_every_rule(cast, steps):
    from django.db import transaction

    with transaction.atomic():
        market = Market(cast)
        for name, amount in steps:
            getattr(market, name.replace(" ", "_"))(amount)
        broken = [finding for finding in audit() if finding.rows]
        assert not broken, broken
        own = balance_of(market.org.pk)
        assert own.prepaid_nano + own.granted_nano - own.owed_nano == market.funds - market.spent
        assert own.held_nano == sum(market.open.values())
        cap = SpendCap.objects.filter(subject_id=market.cap.subject_id).first()
        if cap is not None:
            assert cap.spent_nano == market.spent
        assert Hold.objects.filter(org=market.org, state="open").count() == len(market.open)
        transaction.set_rollback(True)


def test_a_charge_above_its_hold_is_refused_by_the_database(cast):
    from django.db import DatabaseError, transaction

    market = Market(cast)
    market.top_up(1000)
    market.reserve(500)
    ((source, _),) = market.open.items()
    with pytest.raises(DatabaseError, match="not within the hold"), transaction.atomic():
        market._settle(source, 501)
    assert Hold.objects.get(pk=source).state == "open"
