"""Stripe's draft is compared with what was sent to it, before ours is issued.

Stripe bills the meter; ours is the truth. The two differ by explained amounts: calls charged
late or given back after the month's end, usage before there was a subscription, parts of a
cent. One adjusting line makes Stripe's total ours. What the meter says itself must agree with
what was sent to it to the cent, or nothing is finalized. All without tax.
"""

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime

from django.db.models import Q, Sum

from billing.customers import gateway_shared
from billing.invariants import incident_open
from billing.invoicing.subscriptions import subscription_of
from billing.models import Charge, Funding, Invoice, InvoiceStatus, MeterBatch, Wallet
from billing.months import month_end
from billing.stripe import records
from billing.stripe.gateway import GatewayError, StripeGateway
from marketplace.core.money import format_usd
from marketplace.core.outbox import Delivery

MICRO_PER_CENT = 10_000


def to_compare(drafts: Sequence[uuid.UUID]) -> list[uuid.UUID]:
    """Return which of these drafts Stripe has a part in: something is due, or it has a draft."""
    if gateway_shared() is None:
        return []
    found = Invoice.objects.filter(pk__in=drafts, status=InvoiceStatus.DRAFT)
    rows = found.filter(Q(due_cents__gt=0) | ~Q(stripe_invoice_id=""))
    return list(rows.values_list("pk", flat=True))


def difference(invoice: Invoice) -> str:
    """Return why Stripe's draft cannot be finalized yet; empty if it agrees with what was sent.

    Staff who approve an invoice take a wrong count upon themselves: ours is then issued.
    """
    gateway = gateway_shared()
    if gateway is None:
        return ""
    try:
        theirs = _find(gateway, invoice)
        if theirs is None:
            return _absent(gateway, invoice)
        if theirs.status != "draft":
            _finalized_by_itself(theirs, invoice)
            return ""
        if why := _unsent(theirs, invoice):
            return why
        return "" if invoice.approved_at else _drift(gateway, theirs, invoice)
    except GatewayError as error:
        return f"Stripe could not be asked: {error}"


def _finalized_by_itself(theirs: records.Invoice, invoice: Invoice) -> None:
    """Tell staff of an invoice that Stripe did not wait with. Ours is issued: it is the truth.

    What Stripe asks too much is credited when ours is issued; what it asks too little is still
    open after Stripe's is paid.
    """
    if missing := invoice.due_cents - theirs.subtotal:
        what = (
            f"the missing {missing} cents are to be collected by hand."
            if missing > 0
            else f"the {-missing} cents too many are given back."
        )
        incident_open(
            f"finalized by Stripe: {invoice.org.slug[:30]} {invoice.month:%Y-%m}",
            f"Stripe finalized {theirs.id} over {theirs.subtotal} cents by itself; ours is over "
            f"{invoice.due_cents}: {what}",
        )


def _find(gateway: StripeGateway, invoice: Invoice) -> records.Invoice | None:
    if invoice.stripe_invoice_id:
        return gateway.invoice_retrieve(invoice.stripe_invoice_id)
    wallet = Wallet.objects.get(org_id=invoice.org_id)
    if not wallet.stripe_customer_id:
        return None
    end = int(month_end(invoice.month).timestamp())
    for theirs in gateway.invoices_list(wallet.stripe_customer_id, created_from=end):
        if theirs.period_end == end and theirs.subscription:
            _remember(invoice, theirs.id)
            return gateway.invoice_hold(theirs.id) if theirs.status == "draft" else theirs
    return None


def _remember(invoice: Invoice, stripe_invoice_id: str) -> None:
    Invoice.objects.filter(pk=invoice.pk).update(stripe_invoice_id=stripe_invoice_id)
    invoice.stripe_invoice_id = stripe_invoice_id


def _absent(gateway: StripeGateway, invoice: Invoice) -> str:
    """Decide what to do where Stripe has no invoice for the month."""
    subscription = gateway.subscription_retrieve(subscription_of(gateway, invoice.org_id))
    # A subscription of that month is in its next period now: its invoice is on the way.
    was_there = subscription.period_start <= int(month_end(invoice.month).timestamp())
    if was_there and not invoice.approved_at:
        return "Stripe has not made its invoice for the month yet."
    incident_open(
        f"no Stripe invoice: {invoice.org.slug[:30]} {invoice.month:%Y-%m}",
        f"{invoice.org} had no subscription in {invoice.month:%Y-%m}: ours is issued, and its "
        f"{invoice.due_cents} cents are to be collected by hand.",
    )
    return ""


def _within(theirs: records.Invoice) -> Q:
    start = datetime.fromtimestamp(theirs.period_start, UTC)
    return Q(minute__gte=start, minute__lt=datetime.fromtimestamp(theirs.period_end, UTC))


def _unsent(theirs: records.Invoice, invoice: Invoice) -> str:
    batches = MeterBatch.objects.filter(
        org_id=invoice.org_id,
        funding=Funding.POSTPAID,
        minute__lt=datetime.fromtimestamp(theirs.period_end, UTC),
    )
    if waiting := batches.exclude(delivery=Delivery.DELIVERED).count():
        return f"{waiting} meter batches of the month have not reached Stripe."
    unsealed = Charge.objects.filter(
        org_id=invoice.org_id,
        postpaid_batch__isnull=True,
        postpaid_nano__gt=0,
        occurred_at__lt=month_end(invoice.month),
    ).count()
    return f"{unsealed} charges of the month are in no meter batch." if unsealed else ""


def _drift(gateway: StripeGateway, theirs: records.Invoice, invoice: Invoice) -> str:
    lines = theirs.lines if theirs.lines_complete else gateway.invoice_lines(theirs.id)
    metered = [line for line in lines if line.price]
    batches = MeterBatch.objects.filter(
        _within(theirs),
        org_id=invoice.org_id,
        funding=Funding.POSTPAID,
        delivery=Delivery.DELIVERED,
    )
    sent = max(0, batches.aggregate(sum=Sum("micro_usd"))["sum"] or 0)
    billed = sum(line.amount for line in metered)
    if abs(billed * MICRO_PER_CENT - sent) > MICRO_PER_CENT * max(1, len(metered)):
        return (
            f"Stripe's draft {theirs.id} counts {billed} cents, but "
            f"{format_usd(sent * 1000)} was sent for the month."
        )
    return ""
