"""What pays for a call, and what of a hold is free again, each case by itself."""

import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.db import DatabaseError, transaction

from billing import services, wallets
from billing.models import Charge, Draw, Grant, Hold, SpendCap, Transfer
from billing.rating import Rating
from billing.selectors import balance_of
from billing.services import Cap
from billing.split import Share
from marketplace.core.clock import now
from marketplace.core.errors import InsufficientFunds
from marketplace.core.ids import derived_id
from tests.billing.shards import fund, reserve
from tests.cast import Cast

pytestmark = pytest.mark.django_db
MODEL, VENDOR, OTHER = (uuid.UUID(int=n) for n in (1, 2, 3))
SUBJECTS = [uuid.UUID(int=n) for n in (11, 12, 13)]


def grant(cast: Cast, amount: int, source: str = "g", **parts: Any) -> uuid.UUID:
    services.credit_grant(
        org_id=cast.stranger.pk,
        amount_nano=amount,
        source=source,
        **parts,
    )
    return derived_id("grant", source)


def end(cast: Cast, source: uuid.UUID, amount: int) -> bool:
    """Settle: 70 % is the vendor's and 11.11 % the developer's."""
    return services.charge_settle(
        source_id=source,
        vendor_id=cast.vendor.pk,
        version_id=cast.version.pk,
        price_id=uuid.uuid4(),
        rating=Rating(amount, ()),
        shares=[
            Share(str(cast.vendor.pk), 7000, "v"),
            Share(str(cast.developer.pk), 1111, "base"),
        ],
        occurred_at=now(),
    )


def posted(source: uuid.UUID) -> dict[tuple[str, int], int]:
    rows = Transfer.objects.filter(source_id=source)
    return {(row.kind, row.leg): row.amount_nano for row in rows}


def test_grants_pay_before_prepaid_money_and_that_before_debt(cast: Cast) -> None:
    grant(cast, 300)
    fund(cast, 400, 1)
    wallets.credit_limit_set(org_id=cast.stranger.pk, limit_nano=1000)
    source = reserve(cast, 1000)
    assert end(cast, source, 900)
    charge = Charge.objects.get(pk=source)
    assert (charge.granted_nano, charge.prepaid_nano, charge.postpaid_nano) == (300, 400, 200)
    assert posted(source) == {
        ("fund_grant", 0): 300, ("fund_prepaid", 0): 400, ("fund_postpaid", 0): 200,
        ("share", 0): 630, ("share", 1): 99, ("fee", 0): 171,
    }  # fmt: skip
    left = balance_of(cast.stranger.pk)
    assert (left.granted_nano, left.prepaid_nano, left.owed_nano, left.held_nano) == (0, 0, 200, 0)


def test_promotional_credit_pays_the_vendor(cast: Cast) -> None:
    grant(cast, 1000)
    source = reserve(cast, 1000)
    assert end(cast, source, 1000)
    assert posted(source) == {
        ("fund_grant", 0): 1000, ("share", 0): 700, ("share", 1): 111, ("fee", 0): 189
    }  # fmt: skip


@pytest.mark.parametrize("shards", [1, 4])
def test_what_a_call_did_not_need_is_free_again(cast: Cast, shards: int) -> None:
    made = grant(cast, 300)
    fund(cast, 4000, shards)
    source = reserve(cast, 1000, caps=[Cap(subject, 5000) for subject in SUBJECTS])
    caps = SpendCap.objects.filter(subject_id__in=SUBJECTS)
    assert set(caps.values_list("spent_nano", "held_nano")) == {(0, 1000)}
    assert caps.count() == 3
    assert Hold.objects.get(pk=source).wallet_nano == 700
    assert end(cast, source, 100)
    assert set(caps.values_list("spent_nano", "held_nano")) == {(100, 0)}
    found = Grant.objects.get(pk=made)
    assert (found.remaining_nano, found.held_nano) == (200, 0)
    left = balance_of(cast.stranger.pk)
    assert (left.prepaid_nano, left.held_nano, left.owed_nano) == (4000, 0, 0)


@pytest.mark.parametrize(("amount", "state"), [(0, "released"), (1, "captured")])
def test_a_call_ends_once(cast: Cast, amount: int, state: str) -> None:
    fund(cast, 1000, 1)
    source = reserve(cast, 100)
    assert end(cast, source, amount)
    assert Hold.objects.get(pk=source).state == state
    assert not end(cast, source, 50)
    assert balance_of(cast.stranger.pk).prepaid_nano == 1000 - amount


def test_a_charge_is_within_its_hold(cast: Cast) -> None:
    fund(cast, 1000, 1)
    source = reserve(cast, 100)
    with pytest.raises(DatabaseError, match="not within the hold"), transaction.atomic():
        end(cast, source, 101)


def test_grants_are_used_by_priority_and_then_by_their_end(cast: Cast) -> None:
    soon, late = now() + timedelta(days=1), now() + timedelta(days=30)
    last = grant(cast, 10, "last", priority=90)
    never = grant(cast, 10, "never", priority=50)
    later = grant(cast, 10, "later", priority=50, expires_at=late)
    sooner = grant(cast, 10, "sooner", priority=50, expires_at=soon)
    first = grant(cast, 10, "first", priority=10)
    source = reserve(cast, 45)
    draws = Draw.objects.filter(source=source).order_by("position")
    assert list(draws.values_list("grant_id", "held_nano")) == [
        (first, 10), (sooner, 10), (later, 10), (never, 10), (last, 5)
    ]  # fmt: skip


def test_an_expired_grant_pays_for_nothing(cast: Cast) -> None:
    made = grant(cast, 100, expires_at=now() + timedelta(days=1))
    reserve(cast, 10)
    Grant.objects.filter(pk=made).update(expires_at=now() - timedelta(seconds=1))
    with pytest.raises(InsufficientFunds):
        reserve(cast, 10)


@pytest.mark.parametrize("scope", [{"model_id": MODEL}, {"vendor_id": VENDOR}])
def test_a_grant_pays_only_for_what_it_is_given_for(cast: Cast, scope: dict[str, Any]) -> None:
    grant(cast, 100, **scope)
    reserve(cast, 10, model_id=MODEL, vendor_id=VENDOR)
    elsewhere = {"model_id": MODEL, "vendor_id": VENDOR} | dict.fromkeys(scope, OTHER)
    with pytest.raises(InsufficientFunds):
        reserve(cast, 10, **elsewhere)


def test_what_a_grant_holds_for_one_call_pays_for_no_other(cast: Cast) -> None:
    grant(cast, 100)
    reserve(cast, 60)
    with pytest.raises(InsufficientFunds):
        reserve(cast, 60)
    reserve(cast, 40)


@pytest.mark.parametrize("shards", [1, 4])
def test_a_call_holds_no_more_than_there_is(cast: Cast, shards: int) -> None:
    fund(cast, 4000, shards)
    with pytest.raises(InsufficientFunds):
        reserve(cast, 4001)
    reserve(cast, 4000)
    with pytest.raises(InsufficientFunds):
        reserve(cast, 1)
