"""Whoever needs several rows of a wallet locks them in one order: nothing waits in a circle.

Somebody holds the first row while the call waits for it; then the call must have none of the
later ones.
"""

import threading
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from django.db import models, transaction

from billing import services, wallets
from billing.models import Charge, Hold, SpendCap, WalletShard
from billing.services import Cap
from tests.at_once import at_once
from tests.billing.shards import (
    PRICE,
    fund,
    reserve,
    settle,
    shard_of,
    top_up_shard,
    two_of_a_later_shard,
    waiting,
)
from tests.cast import Cast, make_cast

pytestmark = pytest.mark.usefixtures("transactional_db")
SUBJECTS = [uuid.UUID(int=n) for n in (1, 2, 3)]


class Together:
    """Runs calls in threads; `results` says by name what each gave."""

    def __init__(self) -> None:
        self.results: dict[str, Any] = {}
        self._threads: list[threading.Thread] = []

    def start(self, name: str, call: Callable[[], Any]) -> None:
        def run() -> None:
            self.results[name] = at_once([call])[0]

        self._threads.append(threading.Thread(target=run))
        self._threads[-1].start()

    def end(self) -> dict[str, Any]:
        for thread in self._threads:
            thread.join(60)
        return self.results


def waits_for_the_first(rows: models.QuerySet[Any], call: Callable[[], Any]) -> None:
    """Hold the first of the rows until the call waits for it, and then see that it has no other."""
    together = Together()
    with transaction.atomic():
        first, *others = rows.values_list("pk", flat=True)
        rows.select_for_update().get(pk=first)
        together.start("call", call)
        waiting(1)
        assert len(rows.filter(pk__in=others).select_for_update(nowait=True)) == len(others)
    found = together.end()["call"]
    assert not isinstance(found, Exception), found


def capped(cast: Cast, order: list[uuid.UUID]) -> uuid.UUID:
    return reserve(cast, caps=[Cap(subject, 100 * PRICE) for subject in order])


def caps() -> models.QuerySet[SpendCap]:
    return SpendCap.objects.order_by("subject_id")


@pytest.mark.parametrize("order", [SUBJECTS, SUBJECTS[::-1]])
def test_a_call_locks_its_budgets_by_subject(order: list[uuid.UUID]) -> None:
    cast = make_cast()
    fund(cast, 10 * PRICE, 1)
    capped(cast, SUBJECTS)
    waits_for_the_first(caps(), lambda: capped(cast, order))
    assert [row.held_nano for row in caps()] == [2 * PRICE] * 3


def test_an_end_locks_its_budgets_by_subject() -> None:
    cast = make_cast()
    fund(cast, 10 * PRICE, 1)
    source = capped(cast, SUBJECTS[::-1])
    waits_for_the_first(caps(), lambda: settle(cast, source))
    assert [row.spent_nano for row in caps()] == [PRICE] * 3


def shards(cast: Cast) -> models.QuerySet[WalletShard]:
    return WalletShard.objects.filter(org=cast.stranger).order_by("shard")


def test_a_call_that_needs_all_shards_locks_them_by_number() -> None:
    cast = make_cast()
    fund(cast, 8 * PRICE, 4)
    waits_for_the_first(shards(cast), lambda: reserve(cast, 8 * PRICE))
    assert sum(row.held_nano for row in shards(cast)) == 8 * PRICE


def test_an_end_that_needs_all_shards_locks_them_by_number() -> None:
    cast = make_cast()
    org = cast.stranger.pk
    wallets.shard_count_set(org_id=org, count=4)
    wallets.credit_limit_set(org_id=org, limit_nano=40 * PRICE)
    source, _ = two_of_a_later_shard(cast)
    top_up_shard(cast, 0)
    waits_for_the_first(shards(cast), lambda: settle(cast, source))
    assert Charge.objects.get(pk=source).prepaid_nano == PRICE


def waits_while_all_are_taken(cast: Cast, first: Callable[[], Any], call: Callable[[], Any]) -> Any:
    """Run `first` with `call` waiting for its shard, then have all shards taken meanwhile."""
    together = Together()
    has_first, go_on = threading.Event(), threading.Event()

    @transaction.atomic
    def take_all_slowly() -> None:
        locked = shards(cast).select_for_update()
        locked.get(shard=0)
        has_first.set()
        assert go_on.wait(60)
        list(locked)

    with transaction.atomic():
        first()
        together.start("call", call)
        waiting(1)
        together.start("all", take_all_slowly)
        assert has_first.wait(60)
    waiting(1)  # the call, for the first shard
    go_on.set()
    results = together.end()
    assert results["all"] is None
    return results["call"]


def test_an_end_that_finds_its_shard_emptied_lets_go_of_it_before_it_takes_all() -> None:
    cast = make_cast()
    org = cast.stranger.pk
    wallets.shard_count_set(org_id=org, count=4)
    wallets.credit_limit_set(org_id=org, limit_nano=40 * PRICE)
    one, other = two_of_a_later_shard(cast)
    later = Hold.objects.get(pk=one).shard
    for shard in (later, later % 3 + 1):
        top_up_shard(cast, shard)
    # The first uses all that is prepaid in the shard.
    assert (
        waits_while_all_are_taken(cast, lambda: settle(cast, one), lambda: settle(cast, other))
        is True
    )
    assert Charge.objects.get(pk=other).prepaid_nano == PRICE


def test_a_call_that_finds_its_shard_short_lets_go_of_it_before_it_takes_all() -> None:
    cast = make_cast()
    fund(cast, 8 * PRICE, 4)
    later = shards(cast).get(shard=2).pk
    one, other = sources_of_shard(cast, 2)

    def hold(source: uuid.UUID) -> None:
        with transaction.atomic():
            services.hold_reserve(source_id=source, org_id=cast.stranger.pk, amount_nano=2 * PRICE)

    found = waits_while_all_are_taken(cast, lambda: hold(one), lambda: hold(other))
    assert not isinstance(found, Exception), found
    assert WalletShard.objects.get(pk=later).held_nano == 4 * PRICE


def sources_of_shard(cast: Cast, wanted: int) -> list[uuid.UUID]:
    """Return two ids of calls that fall on a shard."""
    found = (uuid.UUID(int=n) for n in range(1, 1000))
    mine = (source for source in found if shard_of(cast.stranger.pk, source) == wanted)
    return [next(mine), next(mine)]
