"""A wallet in shards is one wallet: whichever shard a call falls on, all its money can be used."""

import threading
import uuid
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from django.db import OperationalError, connection, transaction

from billing import services, wallets
from billing.models import Charge, Grant, Hold, SpendCap, WalletShard
from billing.selectors import balance_of
from billing.services import Cap
from marketplace.core.clock import now
from marketplace.core.errors import InsufficientFunds
from tests.at_once import at_once, kinds
from tests.billing.shards import PRICE, fund, reserve, settle, waiting
from tests.cast import Cast, make_cast


def in_turns(calls: list[Callable[[], Any]], threads: int = 12) -> list[Any]:
    """Run the calls in as many threads as there are connections for; return what each gave."""
    results: list[Any] = [None] * len(calls)

    def run(first: int) -> None:
        for index in range(first, len(calls), threads):
            try:
                results[index] = calls[index]()
            except Exception as error:  # what a call meets is its result
                results[index] = error

    for fault in at_once([lambda first=first: run(first) for first in range(threads)]):
        assert fault is None
    return results


@pytest.mark.usefixtures("transactional_db")
@pytest.mark.parametrize("calls", [24, 40])
def test_eight_shards_start_exactly_what_they_cover_together(calls: int) -> None:
    cast = make_cast()
    fund(cast, 30 * PRICE + PRICE // 2, 8)
    results = in_turns([lambda: reserve(cast)] * calls)
    expected = {"UUID": min(calls, 30)} | ({"InsufficientFunds": 10} if calls == 40 else {})
    assert kinds(results) == expected
    assert balance_of(cast.stranger.pk).held_nano == min(calls, 30) * PRICE


@pytest.mark.usefixtures("transactional_db")
def test_ends_at_once_use_prepaid_money_to_the_last_before_debt() -> None:
    cast = make_cast()
    fund(cast, 5 * PRICE + PRICE // 2, 1)
    wallets.credit_limit_set(org_id=cast.stranger.pk, limit_nano=20 * PRICE)
    sources = [reserve(cast) for _ in range(12)]
    assert (
        in_turns([lambda source=source: settle(cast, source) for source in sources]) == [True] * 12
    )
    assert sum(Charge.objects.values_list("prepaid_nano", flat=True)) == 5 * PRICE + PRICE // 2
    assert sum(Charge.objects.values_list("postpaid_nano", flat=True)) == 6 * PRICE + PRICE // 2
    shard = WalletShard.objects.get(org=cast.stranger)
    assert (shard.prepaid_nano, shard.owed_nano, shard.held_nano) == (0, 6 * PRICE + PRICE // 2, 0)


@pytest.mark.usefixtures("transactional_db")
def test_calls_of_all_kinds_at_once_never_deadlock() -> None:
    """Reserve, settle, top-up, grant, expiry, limit and rebalance meet on one wallet."""
    cast = make_cast()
    org = cast.stranger.pk
    fund(cast, 30 * PRICE, 8)
    for priority in (1, 2, 3):
        services.credit_grant(
            org_id=org, amount_nano=4 * PRICE, source=f"g{priority}", priority=priority
        )
    caps = [Cap(uuid.uuid4(), 10**9, name) for name in ("organisation", "project", "key")]
    old = [reserve(cast, caps=caps) for _ in range(12)]
    assert Grant.objects.filter(org_id=org, held_nano=4 * PRICE).count() == 3

    def expire() -> None:
        Grant.objects.filter(org_id=org, priority=3).update(expires_at=now())
        wallets.grants_expire()

    others = [
        lambda: wallets.rebalance(org_id=org),
        lambda: wallets.credit_limit_set(org_id=org, limit_nano=5 * PRICE),
        lambda: services.credit_top_up(org_id=org, amount_nano=PRICE, source="more"),
        lambda: wallets.shard_count_set(org_id=org, count=3),
        expire,
    ]
    calls: list[Any] = [lambda source=source: settle(cast, source, PRICE // 2) for source in old]
    calls += [lambda turn=turn: reserve(cast, caps=caps[turn % 2 :]) for turn in range(30)]
    results = in_turns(calls + others * 2)
    faults = [
        found for found in results
        if isinstance(found, Exception) and not isinstance(found, InsufficientFunds)
    ]  # fmt: skip
    assert faults == []
    assert all(results[: len(old)])
    started = [found for found in results if isinstance(found, uuid.UUID)]
    assert len(started) == 30, "there was enough for all"
    assert balance_of(org).held_nano == 30 * PRICE
    last = SpendCap.objects.get(subject_id=caps[2].subject_id)
    assert (last.spent_nano, last.held_nano) == (6 * PRICE, 30 * PRICE)


@pytest.mark.usefixtures("transactional_db")
def test_ends_and_rebalances_of_a_nearly_spent_wallet_never_deadlock() -> None:
    cast = make_cast()
    org = cast.stranger.pk
    fund(cast, 10 * PRICE, 4)
    wallets.credit_limit_set(org_id=org, limit_nano=100 * PRICE)
    sources = [reserve(cast) for _ in range(40)]
    calls: list[Callable[[], Any]] = []
    for source in sources:
        calls += [
            lambda source=source: settle(cast, source),
            lambda: wallets.rebalance(org_id=org),
        ]
    assert in_turns(calls) == [True, None] * 40
    assert balance_of(org).held_nano == 0


@pytest.mark.usefixtures("transactional_db")
def test_a_call_that_waited_while_its_wallet_got_shards_uses_all_of_them() -> None:
    cast = make_cast()
    org = cast.stranger.pk
    fund(cast, 4 * PRICE, 1)
    results: list[Any] = []
    thread = threading.Thread(
        target=lambda: results.extend(at_once([lambda: reserve(cast, 3 * PRICE)]))
    )
    with transaction.atomic():
        wallets.shard_count_set(org_id=org, count=4)
        thread.start()
        waiting(1)
    thread.join(60)
    assert kinds(results) == {"UUID": 1}
    assert balance_of(org).held_nano == 3 * PRICE


@pytest.mark.django_db
def test_a_call_uses_all_prepaid_money_before_any_debt(cast: Cast) -> None:
    fund(cast, 3 * PRICE, 4)
    wallets.credit_limit_set(org_id=cast.stranger.pk, limit_nano=40 * PRICE)
    sources = [reserve(cast) for _ in range(8)]
    for source in sources:
        settle(cast, source)
    charges = [Charge.objects.get(pk=source) for source in sources]
    assert [charge.prepaid_nano for charge in charges] == [PRICE] * 3 + [0] * 5
    assert sum(charge.postpaid_nano for charge in charges) == 5 * PRICE


@pytest.mark.django_db
def test_money_in_a_shard_that_is_no_longer_used_is_found(cast: Cast) -> None:
    fund(cast, 16 * PRICE, 8)
    sources = [reserve(cast, 2 * PRICE) for _ in range(8)]
    wallets.shard_count_set(org_id=cast.stranger.pk, count=1)
    for source in sources:
        settle(cast, source)
    stranded = WalletShard.objects.filter(org=cast.stranger, shard__gt=0, prepaid_nano__gt=0)
    assert stranded.exists()
    reserve(cast, 8 * PRICE)


@pytest.mark.django_db
def test_nothing_is_lent_while_a_lowered_limit_is_exceeded(cast: Cast) -> None:
    """What one shard frees belongs to the debt of another first."""
    org = cast.stranger.pk
    wallets.shard_count_set(org_id=org, count=4)
    wallets.credit_limit_set(org_id=org, limit_nano=40 * PRICE)
    sources = [reserve(cast, PRICE) for _ in range(40)]
    wallets.credit_limit_set(org_id=org, limit_nano=20 * PRICE)
    covered = Hold.objects.filter(source_id__in=sources, shard=1).values_list("pk", flat=True)
    for source in covered:
        settle(cast, source, 0)
    freed = len(covered)
    assert WalletShard.objects.get(org=org, shard=1).limit_nano == freed * PRICE
    assert balance_of(org).available_nano == (freed - 20) * PRICE < 0
    for _ in range(12):
        with pytest.raises(InsufficientFunds):
            reserve(cast, 1)


@pytest.mark.django_db
def test_calls_fall_on_all_shards_alike(cast: Cast) -> None:
    wallets.shard_count_set(org_id=cast.stranger.pk, count=8)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT billing_shard_of(%s, gen_random_uuid()) FROM generate_series(1, 8000)",
            [cast.stranger.pk],
        )
        found = Counter(row[0] for row in cursor.fetchall())
    assert sorted(found) == list(range(8))
    assert all(800 < count < 1200 for count in found.values()), found


@pytest.mark.usefixtures("transactional_db")
def test_only_the_grants_that_pay_are_locked() -> None:
    cast = make_cast()
    for priority in range(1, 5):
        services.credit_grant(
            org_id=cast.stranger.pk, amount_nano=PRICE, source=f"g{priority}", priority=priority
        )
    locked: dict[int, bool] = {}

    def look() -> None:
        for priority in range(1, 5):
            try:
                with transaction.atomic():
                    Grant.objects.select_for_update(nowait=True).get(priority=priority)
                locked[priority] = False
            except OperationalError:
                locked[priority] = True
        connection.close()

    with transaction.atomic():
        services.hold_reserve(
            source_id=uuid.uuid4(), org_id=cast.stranger.pk, amount_nano=PRICE + 1
        )
        thread = threading.Thread(target=look)
        thread.start()
        thread.join(30)
    assert locked == {1: True, 2: True, 3: False, 4: False}


@pytest.mark.django_db
def test_uneven_shards_are_evened_out_and_even_ones_left_alone(cast: Cast) -> None:
    org = cast.stranger.pk
    fund(cast, 8 * PRICE, 8)
    assert wallets.lopsided_rebalance() == 0
    services.credit_top_up(org_id=org, amount_nano=800 * PRICE, source="to one shard")
    assert wallets.lopsided_rebalance() == 1
    assert {shard.prepaid_nano for shard in WalletShard.objects.filter(org=org)} == {101 * PRICE}
    assert wallets.lopsided_rebalance() == 0
    source = reserve(cast, 400 * PRICE)
    wallets.shard_count_set(org_id=org, count=2)
    settle(cast, source, 0)
    wallets.lopsided_rebalance()
    assert WalletShard.objects.filter(org=org, shard__gte=2, prepaid_nano__gt=0).count() == 0
    assert wallets.lopsided_rebalance() == 0
