"""What Stripe tells of invoices is booked; its new drafts are held back until ours are issued."""

from datetime import UTC, datetime, timedelta

import structlog
from django.db.models import Q

from billing.customers import gateway_shared
from billing.invariants import incident_open
from billing.invoicing import payment
from billing.models import Charge, Invoice, InvoiceStatus, Wallet
from billing.months import month_end
from billing.stripe import records
from billing.stripe.attempts import within
from billing.stripe.gateway import GatewayError, StripeGateway
from marketplace.core.clock import now

log = structlog.get_logger("mercato.billing.follow")

_DRAFTS_FOR = timedelta(hours=2)
"""Stripe finalizes a draft an hour after it made it."""
_BUDGET_S = 30.0


def follow(invoice: Invoice, theirs: records.Invoice) -> bool:
    """Book what became of Stripe's invoice. Returns whether anything was new.

    Where Stripe finalized less than ours by itself, the difference stays open.
    """
    if theirs.status == "paid":
        return payment.invoice_paid(
            invoice_id=invoice.pk,
            received_cents=theirs.received,
            short_cents=max(0, invoice.due_cents - theirs.subtotal),
        )
    if theirs.status == "void":
        return payment.invoice_given_up(invoice_id=invoice.pk, status=InvoiceStatus.VOID)
    if theirs.status == "uncollectible":
        return payment.invoice_given_up(invoice_id=invoice.pk, status=InvoiceStatus.UNCOLLECTIBLE)
    return False


def heard(stripe_invoice_id: str) -> bool:
    """Fetch an invoice that a webhook named, and book what became of it.

    In any order and any number of times: what counts is the state that Stripe has now. While
    ours is a draft nothing is booked: issuing it asks Stripe again. Raises GatewayUnavailable or
    GatewayRefused.
    """
    gateway = gateway_shared()
    if gateway is None:
        return False
    theirs = gateway.invoice_retrieve(stripe_invoice_id)
    invoice = _ours(theirs)
    if theirs.status == "draft":
        return _hold(gateway, theirs, invoice)
    if invoice is None or invoice.status == InvoiceStatus.DRAFT:
        return False
    return follow(invoice, theirs)


def _ours(theirs: records.Invoice) -> Invoice | None:
    """Return our invoice of Stripe's: the one that names it, or one of its month without any."""
    known = Invoice.objects.filter(stripe_invoice_id=theirs.id).first()
    if known is not None:
        return known
    end = datetime.fromtimestamp(theirs.period_end, UTC)
    month = (end - timedelta(days=1)).date().replace(day=1)
    if not theirs.subscription or end != month_end(month):
        return None
    found = Invoice.objects.filter(
        org__wallet__stripe_customer_id=theirs.customer, month=month, stripe_invoice_id=""
    ).first()
    if found is not None:
        found.stripe_invoice_id = theirs.id
        found.save(update_fields=["stripe_invoice_id"])
    return found


def _hold(gateway: StripeGateway, theirs: records.Invoice, invoice: Invoice | None) -> bool:
    """Hold back Stripe's draft of a month in which something was used on credit.

    Where nothing was, Stripe finalizes it over nothing by itself. Returns whether it was held now.
    """
    if not theirs.auto_advance or (invoice is None and not _used_on_credit(theirs)):
        return False
    gateway.invoice_hold(theirs.id)
    return True


def _used_on_credit(theirs: records.Invoice) -> bool:
    wallet = Wallet.objects.filter(stripe_customer_id=theirs.customer).first()
    if wallet is None or not theirs.subscription:
        return False
    end = datetime.fromtimestamp(theirs.period_end, UTC)
    used = Charge.objects.filter(org_id=wallet.org_id, postpaid_nano__gt=0, occurred_at__lt=end)
    return used.filter(Q(invoice__isnull=True) | Q(invoice__status="draft")).exists()


def drafts_hold() -> int:
    """Hold back Stripe's new drafts though no webhook told of them. Returns how many are held."""
    gateway = gateway_shared()
    if gateway is None:
        return 0
    done = 0
    try:
        since = int((now() - _DRAFTS_FOR).timestamp())
        for theirs in within(_BUDGET_S, gateway.drafts_list(created_from=since)):
            done += theirs.auto_advance and _hold(gateway, theirs, _ours(theirs))
    except GatewayError as error:
        log.warning("drafts not held", error=str(error)[:300])
    return done


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
