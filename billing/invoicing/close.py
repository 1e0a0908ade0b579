"""The monthly close: usage of a UTC month becomes invoices. Resumable: each step repeats safely.

A chunk of organisations is assigned, computed, checked and issued in one transaction, so that
whatever dies leaves each invoice either a draft, which is computed anew, or issued for good.
What Stripe has to do follows, and is found again by what it has left undone.
"""

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import structlog
from django.conf import settings
from django.db import OperationalError, connection, transaction

from billing.invariants import incident_open
from billing.invoicing import collect, compare, payment, sql
from billing.models import AccountKind, Invoice, InvoiceStatus, TransferKind
from billing.months import month_end, month_start
from billing.wallets import Why, owed_change
from marketplace.core.clock import now
from marketplace.core.errors import WrongState
from marketplace.core.money import format_usd, to_nano

log = structlog.get_logger("mercato.billing.close")

CHUNK = 250
"""Organisations in a transaction: their wallets are locked for as long as it takes to commit."""
SURGE_TIMES = 5
NUMBER_PREFIX = "M"
_LOCK = 7_203_002
_ATTEMPTS = 5


@dataclass(slots=True)
class Report:
    """What one run did: `issued` of them `paid` at once (nothing due), `held` stay drafts."""

    month: date
    issued: int = 0
    paid: int = 0
    held: int = 0
    due_cents: int = 0


@dataclass(frozen=True, slots=True)
class _Found:
    """A draft that was computed; `why` names the bound that it breaks."""

    id: uuid.UUID
    why: str
    average_nano: int


def close(
    month: date,
    *,
    org_id: uuid.UUID | None = None,
    dry_run: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> Report:
    """Issue the invoices of a UTC month that has ended. What was issued before stays as it is.

    With `dry_run` everything is computed and rolled back, and Stripe is not asked: so a month
    that still runs can be looked at too, as far as it has come. Raises WrongState for a month
    that has not ended, or with `dry_run` not begun. Two at once wait for each other, a chunk
    at a time.
    """
    month = month.replace(day=1)
    require_closable(month, dry_run=dry_run)
    report = Report(month)
    orgs = _orgs(month, org_id)
    progress(f"{month:%Y-%m}: {len(orgs)} organisations to close")
    if orgs and not dry_run:
        _statistics_renew()
    for start in range(0, len(orgs), CHUNK):
        chunk = orgs[start : start + CHUNK]
        _close_chunk(month, chunk, report, dry_run=dry_run)
        progress(f"{month:%Y-%m}: {start + len(chunk)} of {len(orgs)} organisations")
    if not dry_run:
        _follow_up(month, org_id, report, progress)
    return report


def require_closable(month: date, *, dry_run: bool) -> None:
    """Raise WrongState unless a month has ended, or has begun and nothing is to be written."""
    if dry_run and now() < month_start(month):
        raise WrongState(f"{month:%Y-%m} has not begun.")
    if not dry_run and now() < month_end(month):
        raise WrongState(f"{month:%Y-%m} has not ended: --dry-run shows it so far.")


def _statistics_renew() -> None:
    """Have PostgreSQL see what invoices there are: at a first close it thinks there are none."""
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE billing_invoice")


def _orgs(month: date, org_id: uuid.UUID | None) -> list[uuid.UUID]:
    with connection.cursor() as cursor:
        cursor.execute(sql.ORGS_TO_CLOSE, {"month": month, "end": month_end(month)})
        found = sorted(row[0] for row in cursor.fetchall())
    return [org for org in found if org_id in (None, org)]


def _close_chunk(
    month: date,
    orgs: Sequence[uuid.UUID],
    report: Report,
    *,
    dry_run: bool,
    at_stripe: bool = False,
) -> None:
    """Close some organisations in one transaction, again if another one was in its way.

    `at_stripe`: Stripe has been compared with, so that those that wait for it are issued too.
    """
    for attempt in range(_ATTEMPTS):
        done = Report(month)
        try:
            with transaction.atomic():
                _compute_and_issue(month, orgs, done, wait=not (dry_run or at_stripe))
                if dry_run:
                    transaction.set_rollback(True)
        except OperationalError:
            if attempt == _ATTEMPTS - 1 or connection.in_atomic_block:
                raise
            log.warning("the close of a chunk is repeated", attempt=attempt)
            continue
        report.issued += done.issued
        report.paid += done.paid
        report.held += done.held
        report.due_cents += done.due_cents
        return


def _compute_and_issue(
    month: date, orgs: Sequence[uuid.UUID], report: Report, *, wait: bool
) -> None:
    """Assign, compute, check and issue; with `wait`, what Stripe must see first stays a draft."""
    args: dict[str, Any] = {
        "month": month, "end": month_end(month), "now": now(), "orgs": list(orgs),
        "times": SURGE_TIMES, "floor": to_nano(settings.INVOICE_SURGE_FLOOR_USD),
    }  # fmt: skip
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
        cursor.execute(sql.DRAFTS_MAKE, args)
        cursor.execute(sql.DRAFTS_LOCK, args)
        args["drafts"] = [row[0] for row in cursor.fetchall()]
        if not args["drafts"]:
            return
        for statement in (
            sql.CHARGES_ASSIGN, sql.REFUNDS_ASSIGN, sql.LINES_CLEAR, sql.LINES_WRITE,
            sql.TOTALS_WRITE, sql.EMPTY_DROP,
        ):  # fmt: skip
            cursor.execute(statement, args)
        cursor.execute(sql.BOUNDS, args)
        found = [_Found(*row) for row in cursor.fetchall()]
    for one in found:
        if one.why:
            _hold(one)
            report.held += 1
    ready = [one.id for one in found if not one.why]
    if wait:
        waiting = set(compare.to_compare(ready))
        ready = [draft for draft in ready if draft not in waiting]
    _issue(ready, args, report)


def _hold(found: _Found) -> None:
    """Leave an invoice a draft and tell staff why."""
    invoice = Invoice.objects.select_related("org").get(pk=found.id)
    why = {
        "repeats": "A line of it is there twice.",
        "below_zero": "More was given back than was used on credit.",
        "surge": (
            f"{format_usd(invoice.amount_nano)} is more than {SURGE_TIMES} times the average of "
            f"{format_usd(found.average_nano)} of the last months. Approve it if it is right."
        ),
    }[found.why]
    hold(invoice, why)


def hold(invoice: Invoice, why: str) -> None:
    """Note why an invoice is still a draft and open an incident for it."""
    Invoice.objects.filter(pk=invoice.pk).update(held=why[:300])
    incident_open(f"invoice held: {invoice.org.slug[:30]} {invoice.month:%Y-%m}", why)


def _issue(ready: list[uuid.UUID], args: dict[str, Any], report: Report) -> None:
    """Number drafts without gaps, freeze who they are billed to, round off parts of a cent."""
    if not ready:
        return
    year = now().year
    args = args | {"drafts": ready, "count": len(ready), "name": f"{NUMBER_PREFIX}-{year}"}
    with connection.cursor() as cursor:
        cursor.execute(sql.SEQUENCE_MAKE, args)
        cursor.execute(sql.SEQUENCE_TAKE, args)
        args |= {"past": cursor.fetchone()[0], "prefix": f"{args['name']}-"}
        cursor.execute(sql.ISSUE, args)
        cursor.execute(sql.ROUNDING_OF_SHARDED, args)
        for invoice_id, org_id, change in cursor.fetchall():
            why = Why(TransferKind.ROUNDING, invoice_id)
            owed_change(org_id=org_id, why=why, against=AccountKind.ROUNDING, change_nano=change)
        cursor.execute(sql.ROUNDING_POST, args)
    for due in Invoice.objects.filter(pk__in=ready).values_list("due_cents", flat=True):
        report.issued += 1
        report.paid += due == 0
        report.due_cents += due


def _follow_up(
    month: date, org_id: uuid.UUID | None, report: Report, progress: Callable[[str], None]
) -> None:
    """Do what needs Stripe or one wallet at a time, for all that is left of a month."""
    only = {"org_id": org_id} if org_id else {}
    drafts = Invoice.objects.filter(month=month, status=InvoiceStatus.DRAFT, held="", **only)
    waiting = compare.to_compare(list(drafts.values_list("pk", flat=True)))
    for number, invoice in enumerate(Invoice.objects.filter(pk__in=waiting), start=1):
        if why := compare.difference(invoice):
            hold(invoice, why)
            report.held += 1
        else:
            _close_chunk(month, [invoice.org_id], report, dry_run=False, at_stripe=True)
        progress(f"{month:%Y-%m}: {number} of {len(waiting)} compared with Stripe")
    payment.balances_apply(month, org_id)
    for invoice in Invoice.objects.filter(
        month=month, stripe_finalized_at__isnull=True, **only
    ).exclude(stripe_invoice_id=""):
        collect.finish(invoice)


def approve(*, invoice: Invoice, by: Any) -> None:
    """Let an invoice that was held for its size be issued by the next close."""
    if invoice.status != InvoiceStatus.DRAFT:
        raise WrongState(f"{invoice} is issued already.")
    Invoice.objects.filter(pk=invoice.pk).update(approved_at=now(), approved_by=by, held="")
