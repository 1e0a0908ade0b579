"""What pages and the API sum up, by day or by model, is less what was given back."""

import uuid
from datetime import timedelta

import pytest

from billing import selectors, services
from billing.models import RefundReason
from billing.rating import Rating
from billing.refunds import charge_refund
from billing.split import Share
from marketplace.core.clock import now

pytestmark = pytest.mark.django_db


@pytest.fixture
def given_back(cast):
    """A call for 1000, 70 % of it the vendor's, of which 400 were given back; and one for 50."""
    services.credit_top_up(org_id=cast.stranger.pk, amount_nano=2000, source="t")
    other = uuid.uuid4()
    for amount, version in ((1000, cast.version.pk), (50, other)):
        source = uuid.uuid4()
        services.hold_reserve(source_id=source, org_id=cast.stranger.pk, amount_nano=amount)
        services.charge_settle(
            source_id=source,
            vendor_id=cast.vendor.pk,
            version_id=version,
            price_id=uuid.uuid4(),
            rating=Rating(amount, ()),
            shares=[Share(str(cast.vendor.pk), 7000, "v")],
            occurred_at=now(),
        )
        if amount == 1000:
            first = source
    charge_refund(source_id=first, key="k", amount_nano=400, reason=RefundReason.PARTIAL)
    return cast, first, other


def test_spending_is_less_refunds(given_back):
    cast, _, other = given_back
    since = now() - timedelta(days=1)
    days = selectors.spending_by_day(cast.stranger.pk, since)
    assert (sum(d.count for d in days), sum(d.amount_nano for d in days)) == (2, 650)
    sums = selectors.spending_by_version(cast.stranger.pk, since)
    assert [(s.version_id, s.count, s.amount_nano) for s in sums] == [
        (cast.version.pk, 1, 600),
        (other, 1, 50),
    ]


def test_earnings_agree_with_their_total(given_back):
    cast, first, other = given_back
    org = cast.vendor.pk
    assert selectors.earnings_total(org) == 420 + 35
    sums = selectors.earnings_by_version(org)
    assert [(s.version_id, s.count, s.amount_nano) for s in sums] == [
        (cast.version.pk, 1, 420),
        (other, 1, 35),
    ]
    days = selectors.earnings_by_day(org, now() - timedelta(days=1))
    assert (sum(d.count for d in days), sum(d.amount_nano for d in days)) == (2, 455)
    rows = list(selectors.earnings_of(org))
    assert sum(row.net_nano for row in rows) == 455
    (back,) = [row for row in rows if row.net_nano < 0]
    assert (back.net_nano, back.charge_id, back.version_id) == (-280, first, cast.version.pk)
