"""Canaries: the right share of organisations, never flickering, never moving a pinned call."""

import uuid
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marketplace.accounts import services as accounts
from marketplace.catalog import rollouts, selectors, services
from marketplace.catalog.rollout_models import RolloutEvent
from marketplace.core.clock import now
from marketplace.core.errors import InvalidInput, NotFound, WrongState
from tests.cast import SCHEMA

ids = st.uuids()
percents = st.integers(min_value=0, max_value=100)


@given(org=ids, canary=ids, low=percents, high=percents)
def test_who_is_in_at_a_share_is_in_at_every_larger_one(org, canary, low, high):
    low, high = sorted((low, high))
    assert rollouts.is_in(org, canary, low) <= rollouts.is_in(org, canary, high)
    assert not rollouts.is_in(org, canary, 0)
    assert rollouts.is_in(org, canary, 100)


@settings(deadline=None)  # 2000 digests on a machine that does other things, too
@given(canary=ids, percent=st.sampled_from([1, 5, 10, 25, 50, 90]), seed=st.integers(0, 2**32))
def test_the_share_is_near_what_was_asked_for(canary, percent, seed):
    orgs = [uuid.uuid5(uuid.UUID(int=seed), str(n)) for n in range(2000)]
    share = sum(rollouts.is_in(org, canary, percent) for org in orgs) / len(orgs)
    spread = 5 * (percent / 100 * (1 - percent / 100) / len(orgs)) ** 0.5
    assert abs(share - percent / 100) < spread


@given(org=ids, canary=ids)
def test_the_answer_is_the_same_each_time(org, canary):
    assert rollouts.bucket_of(org, canary) == rollouts.bucket_of(str(org), str(canary))


@pytest.fixture
def second(cast):
    """A second listed version of Alice's model."""
    version = services.version_create(
        model=cast.version.model,
        weights_uri="starter:starter-image",
        weights_digest="sha256:" + "1" * 64,
        family="flux",
        input_schema=SCHEMA,
        licence=cast.licence,
    )
    services.price_set(version=version, unit="image", unit_price=Decimal("0.004"))
    services.version_submit(version=version)
    version.refresh_from_db()
    return version


def listed(version, staff):
    return services.version_decide(version=version, after="listed", by=staff)


def resolved(cast, org):
    return selectors.version_runnable(ref=cast.ref, org=org).number


def customers(count, owner):
    return [accounts.organisation_create(name=f"c{n}", owner=owner) for n in range(count)]


def test_without_a_rollout_the_newest_listed_version_is_meant(cast, second):
    assert resolved(cast, cast.developer) == 1
    listed(second, cast.sam)
    assert resolved(cast, cast.developer) == 2


def test_a_canary_is_given_to_its_share_and_pinned_calls_never_move(cast, second):
    orgs = customers(12, cast.bob)
    rollouts.canary_set(version=second, percent=50)  # before it is listed
    assert {resolved(cast, org) for org in orgs} == {1}
    second = listed(second, cast.sam)
    got = {org.pk: resolved(cast, org) for org in orgs}
    assert got == {org.pk: 1 + rollouts.is_in(org.pk, second.pk, 50) for org in orgs}
    for org in orgs:
        for number in (1, 2):
            found = selectors.version_runnable(ref=f"{cast.ref}:{number}", org=org)
            assert found.number == number


def test_promote_and_roll_back_are_written_down(cast, second):
    second = listed(second, cast.sam)
    rollouts.canary_set(version=second, percent=10, by=cast.alice)
    rollouts.roll_back(model=second.model, by=cast.alice, note="slow")
    assert resolved(cast, cast.developer) == 1
    rollouts.promote(version=second, by=cast.alice)
    assert resolved(cast, cast.developer) == 2
    rollouts.promote(version=cast.version, by=cast.alice)  # the way back
    assert resolved(cast, cast.developer) == 1
    told = [(row.action, row.version.number, row.percent) for row in RolloutEvent.objects.all()]
    assert told == [
        ("promote", 1, None),
        ("promote", 2, None),
        ("roll back", 2, 10),
        ("canary", 2, 10),
    ]
    with pytest.raises(WrongState):
        rollouts.roll_back(model=second.model)


def test_a_suspended_canary_is_given_to_nobody(cast, second):
    second = listed(second, cast.sam)
    rollouts.canary_set(version=second, percent=99)
    services.version_decide(version=second, after="suspended", by=cast.sam, note="broken")
    assert {resolved(cast, org) for org in customers(8, cast.bob)} == {1}


@pytest.mark.parametrize("percent", [0, 100, -1])
def test_a_share_of_none_or_all_is_no_canary(cast, second, percent):
    with pytest.raises(InvalidInput):
        rollouts.canary_set(version=second, percent=percent)


def test_a_withdrawn_version_ends_on_its_day(cast, second, monkeypatch):
    second = listed(second, cast.sam)
    end = now() + timedelta(days=7)
    rollouts.deprecate(version=second, ends_at=end, note="Use 3.", by=cast.alice)
    assert resolved(cast, cast.developer) == 2
    later = end + timedelta(seconds=1)
    for module in ("querysets", "selectors"):
        monkeypatch.setattr(f"marketplace.catalog.{module}.now", lambda: later)
    assert resolved(cast, cast.developer) == 1
    with pytest.raises(NotFound):
        selectors.version_runnable(ref=f"{cast.ref}:2", org=cast.developer)
    model = selectors.model_get(vendor="atelier", name="sketch", org=None)
    assert selectors.listed_version(model).number == 1
    rollouts.keep(version=second, by=cast.alice)
    assert resolved(cast, cast.developer) == 2
    with pytest.raises(InvalidInput):
        rollouts.deprecate(version=second, ends_at=now() - timedelta(days=1))


def test_a_canary_is_never_dearer_than_what_its_share_had(cast, second):
    services.price_set(version=second, unit="image", unit_price=Decimal("0.005"))
    with pytest.raises(InvalidInput, match="a canary is never dearer"):
        rollouts.canary_set(version=second, percent=10)
    services.price_set(version=second, unit="image", unit_price=Decimal("0.003"))
    rollouts.canary_set(version=second, percent=10)
    with pytest.raises(InvalidInput, match="a canary is never dearer"):
        services.price_set(version=second, unit="image", unit_price=Decimal("0.005"))


def test_a_member_is_shown_the_version_that_it_calls(cast, second, api):
    services.price_set(version=second, unit="image", unit_price=Decimal("0.003"))
    second = listed(second, cast.sam)
    percent = rollouts.bucket_of(cast.developer.pk, second.pk) // 100 + 1
    rollouts.canary_set(version=second, percent=min(percent, 99))
    number = resolved(cast, cast.developer)
    shown = api.get(f"/v1/models/{cast.ref}").json()["version"]
    assert shown["number"] == number


def test_a_version_ends_before_the_end_of_the_calendar(cast, second):
    second = listed(second, cast.sam)
    with pytest.raises(InvalidInput, match="before the year 3000"):
        rollouts.deprecate(version=second, ends_at=datetime(9999, 12, 31, tzinfo=UTC))
