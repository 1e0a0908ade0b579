"""Reads of wallets, charges and earnings."""

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from django.db.models import Case, Count, F, OuterRef, Q, QuerySet, Subquery, Sum, When
from django.db.models.functions import Coalesce, TruncDate

from billing.models import (
    AccountKind,
    Charge,
    Grant,
    MeterBatch,
    Refund,
    SpendCap,
    Transfer,
    TransferKind,
    Wallet,
    WalletShard,
)
from marketplace.core.clock import now
from marketplace.core.outbox import Delivery


@dataclass(frozen=True, slots=True)
class Balance:
    """What an organisation can spend, in nano-USD; `available_nano` counts unscoped grants in."""

    prepaid_nano: int
    granted_nano: int
    owed_nano: int
    held_nano: int
    credit_limit_nano: int
    available_nano: int


def balance_of(org_id: uuid.UUID) -> Balance:
    """Return the balance; all zero for an organisation without a wallet.

    `granted_nano` is all that unexpired grants have left, holds included; grants for one model
    or vendor only are in it, but not in `available_nano`.
    """
    wallet = WalletShard.objects.for_org(org_id).aggregate(
        **{name: Coalesce(Sum(f"{name}_nano"), 0) for name in ("prepaid", "owed", "held", "limit")}
    )
    valid = Q(expires_at__isnull=True) | Q(expires_at__gt=now())
    anywhere = valid & Q(model_id__isnull=True, vendor_id__isnull=True)
    grants = (
        Grant.objects.for_org(org_id)
        .filter(remaining_nano__gt=0)
        .aggregate(
            left=Coalesce(Sum("remaining_nano", filter=valid), 0),
            held=Coalesce(Sum("held_nano"), 0),
            free=Coalesce(Sum(F("remaining_nano") - F("held_nano"), filter=anywhere), 0),
        )
    )
    prepaid, owed, held, limit = (
        int(wallet[name]) for name in ("prepaid", "owed", "held", "limit")
    )
    return Balance(
        prepaid,
        int(grants["left"]),
        owed,
        held + int(grants["held"]),
        limit,
        prepaid + limit - owed - held + int(grants["free"]),
    )


def grants_of(org_id: uuid.UUID) -> list[Grant]:
    """Return the grants that can still pay, in the order in which they are used."""
    return list(
        Grant.objects.for_org(org_id)
        .filter(remaining_nano__gt=0)
        .exclude(expires_at__lte=now())
        .order_by("priority", F("expires_at").asc(nulls_last=True), "id")
    )


def shard_count_of(org_id: uuid.UUID) -> int:
    """Return over how many shards a wallet is spread."""
    wallet = Wallet.objects.for_org(org_id).first()
    return wallet.shard_count if wallet else 1


def budgets_spent(subject_ids: Iterable[uuid.UUID], month: date) -> dict[uuid.UUID, SpendCap]:
    """Return what budgets have spent and hold in a month, by subject; one not used is absent."""
    rows = SpendCap.objects.filter(subject_id__in=list(subject_ids), month=month)
    return {row.subject_id: row for row in rows}


@dataclass(frozen=True, slots=True)
class Day:
    """Sums of one UTC day."""

    day: date
    count: int
    amount_nano: int


def spending_by_day(org_id: uuid.UUID, since: datetime) -> list[Day]:
    """Return what an organisation spent per day less what it was given back then, oldest first."""
    recent = Q(occurred_at__gte=since)
    charges = Charge.objects.for_org(org_id).filter(recent)
    refunds = Refund.objects.for_org(org_id).filter(recent)
    spent = _sums(charges.annotate(key=TruncDate("occurred_at")))
    back = _sums(refunds.annotate(key=TruncDate("occurred_at")))
    return [Day(key, count, amount) for key, count, amount in sorted(_net(spent, back))]


_Sums = dict[Any, tuple[int, int]]


def _sums(rows: "QuerySet[Any]") -> _Sums:
    """Return (count, amount) of rows by their `key`."""
    found = rows.order_by().values("key").annotate(count=Count("pk"), amount=Sum("amount_nano"))
    return {row["key"]: (row["count"], int(row["amount"])) for row in found}


def _net(spent: _Sums, back: _Sums) -> list[tuple[Any, int, int]]:
    """Return (key, charges, amount less refunds) of all keys."""
    none = (0, 0)
    return [
        (key, spent.get(key, none)[0], spent.get(key, none)[1] - back.get(key, none)[1])
        for key in spent.keys() | back.keys()
    ]


_EARNED = Q(credit__kind=AccountKind.PAYABLE, kind=TransferKind.SHARE)
_TAKEN_BACK = Q(debit__kind=AccountKind.PAYABLE, kind=TransferKind.REFUND_SHARE)
_NET = Case(When(kind=TransferKind.SHARE, then=F("amount_nano")), default=-F("amount_nano"))


def _earned(org_id: uuid.UUID) -> "QuerySet[Transfer]":
    """Return the shares of a vendor and what refunds took back of them."""
    return Transfer.objects.filter(
        (_EARNED & Q(credit__org_id=org_id)) | (_TAKEN_BACK & Q(debit__org_id=org_id))
    )


def earnings_by_day(org_id: uuid.UUID, since: datetime) -> list[Day]:
    """Return what a vendor earned per day in shares and royalties less refunds, oldest first."""
    rows = (
        _earned(org_id)
        .filter(occurred_at__gte=since)
        .annotate(day=TruncDate("occurred_at"))
        .values("day")
        .annotate(count=Count("pk", filter=Q(kind=TransferKind.SHARE)), amount=Sum(_NET))
        .order_by("day")
    )
    return [Day(row["day"], row["count"], int(row["amount"])) for row in rows]


def earnings_total(org_id: uuid.UUID) -> int:
    """Return all that a vendor has earned, less refunds."""
    return int(_earned(org_id).aggregate(total=Sum(_NET))["total"] or 0)


@dataclass(frozen=True, slots=True)
class VersionSum:
    """Sums of the calls of one version."""

    version_id: uuid.UUID
    count: int
    amount_nano: int


def spending_by_version(org_id: uuid.UUID, since: datetime) -> list[VersionSum]:
    """Return what an organisation spent on each version less refunds, the most first."""
    recent = Q(occurred_at__gte=since)
    charges = Charge.objects.for_org(org_id).filter(recent)
    refunds = Refund.objects.for_org(org_id).filter(recent)
    spent = _sums(charges.annotate(key=F("version_id")))
    back = _sums(refunds.annotate(key=F("charge__version_id")))
    sums = [VersionSum(*row) for row in _net(spent, back)]
    return sorted(sums, key=lambda row: (-row.amount_nano, row.version_id))


def earnings_of(org_id: uuid.UUID) -> "QuerySet[Any]":
    """Return the ledger rows of a vendor's shares and of their refunds, newest first.

    Each has `net_nano`, below zero for a refund, `charge_id` and `version_id`: those of the
    charge, which for a royalty is of somebody else's version.
    """
    charged = Charge.objects.filter(pk=OuterRef("charge_id")).values("version_id")
    rows: QuerySet[Any] = (
        _earned(org_id)
        .annotate(charge_id=Coalesce("reverses__source_id", "source_id"), net_nano=_NET)
        .annotate(version_id=Subquery(charged[:1]))
        .order_by("-occurred_at", "-pk")
    )
    return rows


def earnings_by_version(org_id: uuid.UUID) -> list[VersionSum]:
    """Return what a vendor earned by calls of each version less refunds, the most first."""
    rows: Any = (
        earnings_of(org_id)
        .order_by()
        .values("version_id")
        .annotate(count=Count("pk", filter=Q(kind=TransferKind.SHARE)), amount=Sum(_NET))
        .order_by("-amount", "version_id")
    )
    return [VersionSum(row["version_id"], row["count"], int(row["amount"])) for row in rows]


def credits_of(org_id: uuid.UUID) -> "QuerySet[Transfer]":
    """Return top-ups and grants of an organisation, newest first."""
    return Transfer.objects.filter(
        credit__org_id=org_id, kind__in=[TransferKind.TOP_UP, TransferKind.GRANT]
    ).order_by("-occurred_at", "-pk")


def meters_of(org_id: uuid.UUID) -> dict[str, int]:
    """Return how many meter batches of an organisation wait, were delivered and have failed."""
    return MeterBatch.objects.for_org(org_id).aggregate(
        waiting=Count("pk", filter=Q(delivery=Delivery.PENDING)),
        delivered=Count("pk", filter=Q(delivery=Delivery.DELIVERED)),
        failed=Count("pk", filter=Q(delivery=Delivery.FAILED)),
    )


def charge_of(source_id: uuid.UUID) -> Charge | None:
    """Return the charge of a source, if it has ended."""
    return Charge.objects.filter(pk=source_id).first()


def oldest_unsealed() -> datetime | None:
    """Return when the oldest charge that is in no batch yet occurred."""
    moments = [
        Charge.objects.filter(unsealed)
        .order_by("occurred_at")
        .values_list("occurred_at", flat=True)
        .first()
        for unsealed in (
            Q(prepaid_batch__isnull=True) & (Q(prepaid_nano__gt=0) | Q(granted_nano__gt=0)),
            Q(postpaid_batch__isnull=True, postpaid_nano__gt=0),
        )
    ]
    return min((moment for moment in moments if moment), default=None)
