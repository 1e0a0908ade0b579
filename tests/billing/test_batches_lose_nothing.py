"""Whatever is charged and given back, in any order and cut anywhere, Stripe is told the sum of."""

from collections import defaultdict
from datetime import timedelta

import pytest
from django.db import transaction
from django.db.models import Sum
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from billing import meter_ids, meters
from billing.models import Charge, Funding, MeterBatch, Refund, Wallet
from billing.refunds import charge_refund
from billing.services import credit_grant, credit_top_up
from billing.wallets import credit_limit_set
from marketplace.core.clock import now
from marketplace.core.errors import InvalidInput
from tests.cast import make_cast
from tests.invoicing import charge

pytestmark = pytest.mark.django_db

CHARGES = st.tuples(
    st.just("charge"),
    st.integers(0, 1),  # of which organisation
    st.one_of(st.integers(0, 2500), st.integers(0, 10**9)),  # nano-dollars
    st.integers(0, 4),  # minutes ago: also before what is sealed already
)
REFUNDS = st.tuples(st.just("refund"), st.integers(0, 30), st.integers(1, 3000))
SEALS = st.tuples(st.just("seal"), st.integers(1, 3))
RELAYS = st.tuples(st.just("relay"), st.sampled_from(["", "drop_after", "drop_before", "429"]))
STEPS = st.lists(st.one_of(CHARGES, CHARGES, REFUNDS, SEALS, RELAYS), min_size=1, max_size=40)


@pytest.fixture(autouse=True)
def _stripe(settings, standin):
    settings.STRIPE_API_KEY, settings.STRIPE_API_BASE = "sk_test_x", standin.url
    settings.METER_SEAL_AFTER_S = 0
    meter_ids.meters_ensure.cache_clear()


def told(standin, customer, funding):
    """Return the sum and the identifiers of the events that Stripe has accepted of a customer."""
    found = [
        (int(event["payload"]["value"]), event["identifier"])
        for event in standin.state(events=True)["events"]
        if event["event_name"] == meter_ids.EVENT_NAMES[funding]
        and event["payload"]["stripe_customer_id"] == customer
    ]
    return sum(value for value, _ in found), sorted(name for _, name in found)


def walk(cast, standin, steps):
    """Take the steps, then seal and relay all that is left."""
    orgs, sources = (cast.developer, cast.stranger), []
    for kind, *what in steps:
        if kind == "charge":
            whose, nano, minutes = what
            at = now() - timedelta(minutes=minutes)
            sources.append(charge(orgs[whose], cast.vendor, nano, at=at))
        elif kind == "refund" and sources:
            source = sources[what[0] % len(sources)]
            try:
                charge_refund(
                    source_id=source, key=str(Refund.objects.count()), reason="staff",
                    amount_nano=what[1],
                )  # fmt: skip
            except InvalidInput:
                continue  # less is left of it
        elif kind == "seal":
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(meters, "_SEAL_LIMIT", what[0])
                meters.batches_seal(budget_s=-1)
        elif kind == "relay":
            if what[0]:
                standin.fault(what[0])
            relay()
    standin.control("DELETE", "faults")
    meters.batches_seal()
    relay()
    return orgs


def relay():
    MeterBatch.objects.filter(delivery="pending").update(next_attempt_at=now())
    meters.batches_relay()


def due(org, funding):
    """Return what the batches of an organisation must add up to: charges less refunds."""
    fields = ("postpaid",) if funding == Funding.POSTPAID else ("granted", "prepaid")
    sums = [
        sum(rows.aggregate(sum=Sum(f"{field}_nano"))["sum"] or 0 for field in fields)
        for rows in (Charge.objects.for_org(org), Refund.objects.for_org(org))
    ]
    return sums[0] - sums[1]


def check(org, funding, standin):
    batches = list(MeterBatch.objects.filter(org=org, funding=funding).order_by("sequence"))
    assert [batch.sequence for batch in batches] == list(range(1, len(batches) + 1))
    running = whole = 0
    for batch in batches:
        running += batch.amount_nano
        whole += batch.micro_usd
        assert (batch.cumulative_nano, whole) == (running, running // 1000)
    assert running == due(org, funding)
    members = defaultdict(int)
    for model, sign in ((Charge, 1), (Refund, -1)):
        for row in model.objects.for_org(org):
            parts = {"prepaid": row.granted_nano + row.prepaid_nano, "postpaid": row.postpaid_nano}
            batch_id = getattr(row, f"{funding}_batch_id")
            assert (batch_id is not None) == (parts[funding] > 0)
            members[batch_id] += sign * parts[funding]
    assert {batch.pk: batch.amount_nano for batch in batches} == {
        batch_id: nano for batch_id, nano in members.items() if batch_id
    }
    customer = Wallet.objects.get(org=org).stripe_customer_id
    sent = sorted(str(batch.pk) for batch in batches if batch.micro_usd)
    assert told(standin, customer, funding) == ((whole, sent) if sent else (0, []))


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=STEPS, granted=st.integers(1, 4000))
def test_any_charges_and_refunds_in_any_order_add_up_at_stripe(db, standin, steps, granted):
    with transaction.atomic():
        cast = make_cast()  # new ids: Stripe does not forget those of the last example
        for org in (cast.developer, cast.stranger):
            credit_limit_set(org_id=org.pk, limit_nano=10**12)
            credit_grant(org_id=org.pk, amount_nano=granted, source="g")
        credit_top_up(org_id=cast.stranger.pk, amount_nano=1500, source="t")
        for org in walk(cast, standin, steps):
            for funding in Funding:
                check(org, funding, standin)
        transaction.set_rollback(True)
