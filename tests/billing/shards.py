"""Calls of the stranger's wallet in shards, and what tests of it wait for."""

import time
import uuid
from typing import Any

from django.db import connection, transaction

from billing import services, wallets
from billing.models import Hold, WalletShard
from billing.rating import Rating
from billing.split import Share
from marketplace.core.clock import now
from marketplace.core.ids import derived_id
from tests.cast import Cast

PRICE = 1_000


def reserve(cast: Cast, amount: int = PRICE, **extra: Any) -> uuid.UUID:
    source = uuid.uuid4()
    with transaction.atomic():
        services.hold_reserve(
            source_id=source, org_id=cast.stranger.pk, amount_nano=amount, **extra
        )
    return source


def settle(cast: Cast, source: uuid.UUID, amount: int = PRICE) -> bool:
    with transaction.atomic():
        return services.charge_settle(
            source_id=source,
            vendor_id=cast.vendor.pk,
            version_id=cast.version.pk,
            price_id=uuid.uuid4(),
            rating=Rating(amount, ()),
            shares=[Share(str(cast.vendor.pk), 8000, "v")],
            occurred_at=now(),
        )


def fund(cast: Cast, amount: int, shards: int) -> None:
    services.credit_top_up(org_id=cast.stranger.pk, amount_nano=amount, source=uuid.uuid4().hex)
    wallets.shard_count_set(org_id=cast.stranger.pk, count=shards)


def shard_of(org: uuid.UUID, source: uuid.UUID) -> int:
    """Return the shard of a wallet that a source falls on."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT billing_shard_of(%s, %s)", [org, source])
        return int(cursor.fetchone()[0])


def waiting(count: int) -> None:
    """Return once `count` connections wait for a row of a wallet's shards."""
    until = time.monotonic() + 30
    found = -1
    while found != count:
        assert time.monotonic() < until, f"{found} wait"
        time.sleep(0.01)
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_stat_clear_snapshot()")
            cursor.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                " AND datname = current_database()"
            )
            found = cursor.fetchone()[0]


def two_of_a_later_shard(cast: Cast) -> tuple[uuid.UUID, uuid.UUID]:
    """Hold until two holds are in one shard that is not the first; return both."""
    first: dict[int, uuid.UUID] = {}
    for _ in range(20):
        source = reserve(cast)
        shard = Hold.objects.get(pk=source).shard
        if shard and shard in first:
            return first[shard], source
        first[shard] = source
    raise AssertionError("all fell on the first shard")


def top_up_shard(cast: Cast, wanted: int) -> None:
    """Pay in by the first source that falls on a shard: what is prepaid there is then PRICE."""
    for n in range(200):
        source = f"for {wanted}, {n}"
        if shard_of(cast.stranger.pk, derived_id("top_up", source)) == wanted:
            break
    services.credit_top_up(org_id=cast.stranger.pk, amount_nano=PRICE, source=source)
    found = WalletShard.objects.get(org=cast.stranger, shard=wanted)
    assert found.prepaid_nano == PRICE
