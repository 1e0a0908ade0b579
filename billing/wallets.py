"""Changes of wallets that are not on the hot path: limits, shards, debts paid, money taken back."""

import uuid
from dataclasses import dataclass
from datetime import datetime

from django.db import connection, transaction

from billing.ledger import Side, post
from billing.models import AccountKind, Grant, TransferKind, Wallet, WalletShard
from marketplace.core.clock import now
from marketplace.core.errors import InvalidInput

MAX_NANO = 10**18


@dataclass(slots=True)
class _Totals:
    """What a whole wallet has, in nano-USD; holds stay in the shards they are in."""

    prepaid: int
    owed: int
    limit: int


def wallet_ensure(org_id: uuid.UUID) -> Wallet:
    """Return an organisation's wallet, made if there is none."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT billing_wallet_ensure(%s)", [org_id])
    return Wallet.objects.get(org_id=org_id)


def _locked(org_id: uuid.UUID) -> tuple[Wallet, list[WalletShard]]:
    """Lock a wallet with all its shards, in the order in which the SQL functions lock them."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT billing_wallet_ensure(%s)", [org_id])
    wallet = Wallet.objects.select_for_update().get(org_id=org_id)
    return wallet, list(
        WalletShard.objects.select_for_update().filter(org_id=org_id).order_by("shard")
    )


def _spread(wallet: Wallet, shards: list[WalletShard], totals: _Totals) -> None:
    """Write `totals` over the shards so that what is available is about equal in each.

    Every shard but the first gets what it holds and its part of the rest, prepaid money first;
    the first takes what is left and all of the debt.
    """
    held = sum(shard.held_nano for shard in shards)
    spare = max(0, totals.prepaid + totals.limit - totals.owed - held) // wallet.shard_count
    prepaid, limit = totals.prepaid, totals.limit
    for shard in shards[1:]:
        want = shard.held_nano + (spare if shard.shard < wallet.shard_count else 0)
        shard.prepaid_nano = min(want, prepaid)
        shard.limit_nano = min(want - shard.prepaid_nano, limit)
        shard.owed_nano = 0
        prepaid -= shard.prepaid_nano
        limit -= shard.limit_nano
    shards[0].prepaid_nano, shards[0].limit_nano, shards[0].owed_nano = prepaid, limit, totals.owed
    WalletShard.objects.bulk_update(shards, ["prepaid_nano", "limit_nano", "owed_nano"])


def _totals(shards: list[WalletShard]) -> _Totals:
    return _Totals(
        sum(shard.prepaid_nano for shard in shards),
        sum(shard.owed_nano for shard in shards),
        sum(shard.limit_nano for shard in shards),
    )


@transaction.atomic
def credit_limit_set(*, org_id: uuid.UUID, limit_nano: int) -> None:
    """Let an organisation owe up to `limit_nano`, to be invoiced afterwards."""
    if not 0 <= limit_nano < MAX_NANO:
        raise InvalidInput("The limit is out of range.", fields={"limit": ["Out of range."]})
    wallet, shards = _locked(org_id)
    totals = _totals(shards)
    totals.limit = limit_nano
    _spread(wallet, shards, totals)


@transaction.atomic
def shard_count_set(*, org_id: uuid.UUID, count: int) -> None:
    """Spread a wallet over `count` shards, so that as many calls can settle at once."""
    if not 1 <= count <= 64:
        raise InvalidInput("1 to 64 shards.", fields={"shards": ["Between 1 and 64."]})
    wallet, shards = _locked(org_id)
    there = {shard.shard for shard in shards}
    # Nobody else can make any meanwhile: the wallet is locked.
    shards += WalletShard.objects.bulk_create(
        [WalletShard(org_id=org_id, shard=n) for n in range(count) if n not in there]
    )
    wallet.shard_count = count
    wallet.save(update_fields=["shard_count"])
    _spread(wallet, shards, _totals(shards))


def rebalance(*, org_id: uuid.UUID) -> None:
    """Even out the shards of a wallet."""
    with transaction.atomic():
        wallet, shards = _locked(org_id)
        _spread(wallet, shards, _totals(shards))


# Uneven: a shard in use has less than a quarter of its part, or one not in use has anything.
_LOPSIDED = """
    SELECT org_id FROM (
        SELECT w.org_id, w.shard_count, s.shard,
               s.prepaid_nano + s.limit_nano - s.owed_nano - s.held_nano AS free
        FROM billing_wallet w JOIN billing_walletshard s USING (org_id)) f
    GROUP BY org_id, shard_count
    HAVING count(*) > 1 AND sum(free) > 0
       AND (min(free) FILTER (WHERE shard < shard_count) * 4 * shard_count < sum(free)
            OR COALESCE(sum(free) FILTER (WHERE shard >= shard_count), 0) > 0)
    ORDER BY org_id
"""


def lopsided_rebalance() -> int:
    """Even out the wallets whose shards have become uneven. Returns how many those were."""
    with connection.cursor() as cursor:
        cursor.execute(_LOPSIDED)
        found = [row[0] for row in cursor.fetchall()]
    for org_id in found:
        rebalance(org_id=org_id)
    return len(found)


@dataclass(frozen=True, slots=True)
class Why:
    """What a change of a wallet is posted as: kind, source and leg make it happen once."""

    kind: TransferKind
    source_id: uuid.UUID
    leg: int = 0
    reverses: uuid.UUID | None = None
    occurred_at: datetime | None = None


def owed_change(*, org_id: uuid.UUID, why: Why, against: AccountKind, change_nano: int) -> bool:
    """Raise or lower what an organisation owes, against an account of the platform, once.

    Returns whether it was new. Raises ValueError if more would be taken off than is owed.
    """
    return _change(org_id, AccountKind.RECEIVABLE, against, change_nano, why)


def prepaid_change(*, org_id: uuid.UUID, why: Why, against: AccountKind, change_nano: int) -> bool:
    """Add to or take from prepaid money, against an account of the platform, once.

    Returns whether it was new. Raises ValueError if more would be taken than is there.
    """
    return _change(org_id, AccountKind.WALLET, against, change_nano, why)


@transaction.atomic
def _change(
    org_id: uuid.UUID, kind: AccountKind, against: AccountKind, change_nano: int, why: Why
) -> bool:
    """Change a debt (RECEIVABLE) or prepaid money (WALLET) together with its transfer, once."""
    wallet, shards = _locked(org_id)
    debit, credit = Side(kind, org_id), Side(against)
    # A debt grows by debits, prepaid money by credits.
    if (change_nano > 0) != (kind == AccountKind.RECEIVABLE):
        debit, credit = credit, debit
    if not post(
        debit, credit, abs(change_nano), why.kind, why.source_id,
        leg=why.leg, reverses=why.reverses, occurred_at=why.occurred_at,
    ):  # fmt: skip
        return False
    totals = _totals(shards)
    if kind == AccountKind.RECEIVABLE:
        totals.owed += change_nano
    else:
        totals.prepaid += change_nano
    if min(totals.owed, totals.prepaid) < 0:
        raise ValueError(f"{kind} of {org_id} has less than {-change_nano}")
    _spread(wallet, shards, totals)
    return True


def prepaid_apply(*, org_id: uuid.UUID, source_id: uuid.UUID, amount_nano: int) -> bool:
    """Pay a debt with prepaid money, once per source. Returns whether it was done now.

    What is available stays the same, so holds do not matter. False too if there is less money
    or less debt than that.
    """
    with transaction.atomic():
        wallet, shards = _locked(org_id)
        totals = _totals(shards)
        if amount_nano > min(totals.prepaid, totals.owed):
            return False
        own, owed = Side(AccountKind.WALLET, org_id), Side(AccountKind.RECEIVABLE, org_id)
        if not post(own, owed, amount_nano, TransferKind.APPLY, source_id):
            return False
        totals.prepaid -= amount_nano
        totals.owed -= amount_nano
        _spread(wallet, shards, totals)
        return True


def free_prepaid(org_id: uuid.UUID) -> int:
    """Return how much prepaid money no job holds and no debt needs. Locks the wallet."""
    _, shards = _locked(org_id)
    totals = _totals(shards)
    held = sum(shard.held_nano for shard in shards)
    return max(0, min(totals.prepaid, totals.prepaid + totals.limit - totals.owed - held))


def grants_expire(limit: int = 1000) -> int:
    """Take back what expired grants have left. Returns how many were touched."""
    due = (
        Grant.objects.filter(expires_at__lte=now(), remaining_nano__gt=0)
        .order_by("expires_at")
        .values_list("pk", flat=True)[:limit]
    )
    done = 0
    for grant_id in due:
        with connection.cursor() as cursor:
            cursor.execute("SELECT billing_grant_expire(%s, %s)", [grant_id, now()])
            done += bool(cursor.fetchone()[0])
    return done
