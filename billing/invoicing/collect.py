"""Stripe's side of invoices: compared with ours, made equal, finalized, and heard of again.

Stripe bills the meter; ours is the truth. The two differ by explained amounts: calls charged
late or given back after the month's end, usage before there was a subscription, parts of a
cent. One adjusting line makes Stripe's total ours. What the meter says itself must agree with
what was sent to it to the cent, or nothing is finalized.
"""

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import structlog
from django.conf import settings
from django.db.models import Exists, OuterRef, Q, Sum

from billing.customers import customer_of, gateway_shared
from billing.invariants import incident_open
from billing.invoicing import payment
from billing.invoicing.attempts import hourly_attempt
from billing.invoicing.months import month_end
from billing.meters import meter_id
from billing.models import (
    Charge,
    Funding,
    Invoice,
    InvoiceStatus,
    MeterBatch,
    Wallet,
    WalletShard,
)
from billing.stripe import records
from billing.stripe.gateway import GatewayError, GatewayRefused, GatewayUnavailable, StripeGateway
from marketplace.core.clock import now
from marketplace.core.ids import derived_id
from marketplace.core.money import format_usd
from marketplace.core.outbox import Delivery

log = structlog.get_logger("mercato.billing.collect")

MICRO_PER_CENT = 10_000
_CENT = 10_000_000
_FOOTER = 4500


# Subscriptions


def subscriptions_ensure(limit: int = 200) -> int:
    """Subscribe organisations that may owe or do owe to the metered price. Returns how many."""
    gateway = gateway_shared()
    if gateway is None:
        return 0
    credit = WalletShard.objects.filter(org=OuterRef("org")).filter(
        Q(limit_nano__gt=0) | Q(owed_nano__gt=0)
    )
    done = 0
    for wallet in Wallet.objects.filter(Exists(credit), stripe_subscription_id="")[:limit]:
        try:
            done += bool(subscription_of(gateway, wallet.org_id))
        except GatewayError as error:
            log.warning("no subscription yet", org=str(wallet.org_id), error=str(error)[:300])
    return done


def subscription_of(gateway: StripeGateway, org_id: uuid.UUID) -> str:
    """Return the organisation's subscription at Stripe, made if there is none."""
    customer = customer_of(gateway, org_id)
    wallet = Wallet.objects.get(org_id=org_id)
    if wallet.stripe_subscription_id:
        return wallet.stripe_subscription_id
    price = gateway.metered_price_ensure(meter_id(gateway, Funding.POSTPAID))
    try:
        made = gateway.subscription_ensure(
            customer, price, str(org_id), attempt=wallet.stripe_subscription_attempt
        )
    except GatewayUnavailable as error:
        if error.is_stored:
            Wallet.objects.filter(
                pk=wallet.pk, stripe_subscription_attempt=wallet.stripe_subscription_attempt
            ).update(stripe_subscription_attempt=wallet.stripe_subscription_attempt + 1)
        raise
    Wallet.objects.filter(pk=wallet.pk).update(stripe_subscription_id=made.id)
    return made.id


# Before ours is issued


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
            if theirs.subtotal == invoice.due_cents:
                return ""
            return (
                f"Stripe finalized {theirs.id} over {theirs.subtotal} cents by itself; "
                f"ours is over {invoice.due_cents}."
            )
        if why := _unsent(theirs, invoice):
            return why
        return "" if invoice.approved_at else _drift(gateway, theirs, invoice)
    except GatewayError as error:
        return f"Stripe could not be asked: {error}"


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


# After ours is issued


def finish(invoice: Invoice) -> bool:
    """Make Stripe's draft of an issued invoice equal to ours, finalize it, let it be paid.

    Each step looks first at what is there, so it can be repeated. Returns whether Stripe's is
    final now.
    """
    gateway = gateway_shared()
    if gateway is None or invoice.status == InvoiceStatus.DRAFT:
        return False
    try:
        theirs = gateway.invoice_retrieve(invoice.stripe_invoice_id)
        if theirs.status == "draft":
            _equal(gateway, theirs, invoice)
            theirs = gateway.invoice_finalize(
                theirs.id, collect=invoice.status == InvoiceStatus.OPEN
            )
        if invoice.status == InvoiceStatus.PAID and theirs.status == "open":
            theirs = gateway.invoice_pay(theirs.id, paid_out_of_band=True)
    except GatewayError as error:
        log.warning("invoice not finalized", invoice=str(invoice), error=str(error)[:300])
        if isinstance(error, GatewayRefused):
            incident_open(f"not final at Stripe: {invoice.number}", str(error))
        return False
    Invoice.objects.filter(pk=invoice.pk).update(
        stripe_finalized_at=now(), hosted_url=theirs.hosted_url[:500]
    )
    follow(invoice, theirs)
    return True


def finish_left(limit: int = 200) -> int:
    """Finish invoices at Stripe that an earlier run did not. Returns how many are final now."""
    if gateway_shared() is None:
        return 0
    left = Invoice.objects.filter(stripe_finalized_at__isnull=True).exclude(stripe_invoice_id="")
    issued = left.exclude(status=InvoiceStatus.DRAFT).order_by("issued_at")
    return sum(finish(invoice) for invoice in issued[:limit])


def _equal(gateway: StripeGateway, theirs: records.Invoice, invoice: Invoice) -> None:
    lines = theirs.lines if theirs.lines_complete else gateway.invoice_lines(theirs.id)
    missing = invoice.due_cents - sum(line.amount for line in lines)
    if missing:
        gateway.invoice_item_create(
            theirs.customer,
            theirs.id,
            amount=missing,
            description="Calls charged late or given back, and parts of a cent",
            item_id=str(derived_id("invoice_adjust", invoice.pk)),
            attempt=hourly_attempt(invoice.issued_at),
        )
    gateway.invoice_describe(
        theirs.id,
        description=f"{invoice.number}: usage in {invoice.month:%B %Y}",
        footer=_footer(invoice),
        metadata={"mercato_invoice": str(invoice.pk), "mercato_number": invoice.number or ""},
    )


def _footer(invoice: Invoice) -> str:
    """Write our lines, as many as fit; the whole is in our own document."""
    text = ""
    for line in invoice.lines.all():
        more = f"{line.model_ref} ({line.month:%Y-%m}): {line.calls} calls, "
        more += f"{format_usd(line.due_cents * _CENT)}\n"
        if len(text) + len(more) > _FOOTER:
            text += "…\n"
            break
        text += more
    return f"{text}{settings.PUBLIC_URL}/dashboard/invoices/{invoice.pk}/"


# What Stripe tells


def follow(invoice: Invoice, theirs: records.Invoice) -> bool:
    """Book what became of Stripe's invoice. Returns whether anything was new."""
    if theirs.status == "paid":
        return payment.invoice_paid(invoice_id=invoice.pk, received_cents=theirs.received)
    if theirs.status == "void":
        return payment.invoice_given_up(invoice_id=invoice.pk, status=InvoiceStatus.VOID)
    if theirs.status == "uncollectible":
        return payment.invoice_given_up(invoice_id=invoice.pk, status=InvoiceStatus.UNCOLLECTIBLE)
    return False


def heard(stripe_invoice_id: str) -> bool:
    """Fetch an invoice that a webhook named, and book what became of it.

    In any order and any number of times: what counts is the state that Stripe has now. Raises
    GatewayUnavailable or GatewayRefused.
    """
    gateway = gateway_shared()
    if gateway is None:
        return False
    theirs = gateway.invoice_retrieve(stripe_invoice_id)
    invoice = Invoice.objects.filter(stripe_invoice_id=theirs.id).first()
    if invoice is None:
        return theirs.status == "draft" and _adopt(gateway, theirs)
    if invoice.status == InvoiceStatus.DRAFT:
        if theirs.status == "draft" and theirs.auto_advance:
            gateway.invoice_hold(theirs.id)
        return False
    return follow(invoice, theirs)


def _adopt(gateway: StripeGateway, theirs: records.Invoice) -> bool:
    """Hold back Stripe's new draft of a month in which something was used on credit."""
    wallet = Wallet.objects.filter(stripe_customer_id=theirs.customer).first()
    if wallet is None or not theirs.subscription:
        return False
    end = datetime.fromtimestamp(theirs.period_end, UTC)
    used = Charge.objects.filter(org_id=wallet.org_id, postpaid_nano__gt=0, occurred_at__lt=end)
    if not used.filter(Q(invoice__isnull=True) | Q(invoice__status="draft")).exists():
        return False  # nothing to compare: Stripe finalizes it over nothing by itself
    gateway.invoice_hold(theirs.id)
    month = (end - timedelta(days=1)).date().replace(day=1)
    if end == month_end(month):
        Invoice.objects.filter(
            org_id=wallet.org_id, month=month, stripe_invoice_id="", status=InvoiceStatus.DRAFT
        ).update(stripe_invoice_id=theirs.id)
    return True


def end_by_hand(*, invoice: Invoice, status: InvoiceStatus) -> bool:
    """Book that an open invoice was paid in another way, or that nobody will pay it.

    Stripe is told first, so that it stops asking for it; if it cannot be told, nothing is
    booked. Returns whether it was new. Raises WrongState for a draft, and GatewayError.
    """
    gateway = gateway_shared()
    if gateway is not None and invoice.stripe_finalized_at:
        if status == InvoiceStatus.PAID:
            gateway.invoice_pay(invoice.stripe_invoice_id, paid_out_of_band=True)
        elif gateway.invoice_retrieve(invoice.stripe_invoice_id).status == "open":
            gateway.invoice_void(invoice.stripe_invoice_id)
    if status == InvoiceStatus.PAID:
        return payment.invoice_paid(invoice_id=invoice.pk)
    return payment.invoice_given_up(invoice_id=invoice.pk, status=status)


def payment_failed(stripe_invoice_id: str) -> None:
    """Tell staff that Stripe could not collect an invoice; Stripe tries again by itself."""
    invoice = Invoice.objects.filter(stripe_invoice_id=stripe_invoice_id).first()
    if invoice is not None and invoice.status == InvoiceStatus.OPEN:
        incident_open(
            f"payment failed: {invoice.number}", f"Stripe could not collect {stripe_invoice_id}."
        )
