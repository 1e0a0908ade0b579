"""Stripe's side of an issued invoice is made equal to ours and finalized; it collects then."""

import structlog
from django.conf import settings

from billing.customers import gateway_shared
from billing.invariants import incident_open
from billing.invoicing.attempts import hourly_attempt
from billing.invoicing.follow import follow
from billing.invoicing.sql import CENT
from billing.models import Invoice, InvoiceStatus
from billing.stripe import records
from billing.stripe.gateway import GatewayError, GatewayRefused, StripeGateway
from marketplace.core.clock import now
from marketplace.core.ids import derived_id
from marketplace.core.money import format_usd

log = structlog.get_logger("mercato.billing.collect")

_FOOTER = 4500


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
        if theirs.status == "open" and theirs.subtotal > invoice.due_cents:
            theirs = _lower(gateway, theirs, invoice)
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


def _lower(gateway: StripeGateway, theirs: records.Invoice, invoice: Invoice) -> records.Invoice:
    """Take off an invoice that Stripe finalized by itself what it asks more than ours."""
    note_id = str(derived_id("invoice_lower", invoice.pk))
    notes = gateway.credit_notes_list(theirs.id)
    if any(note.metadata.get("mercato_id") == note_id for note in notes):
        return theirs
    gateway.credit_note_create(
        theirs.id,
        amount=theirs.with_tax(theirs.subtotal - invoice.due_cents),
        note_id=note_id,
        settle="out_of_band",
        memo=f"Less, as in {invoice.number}",
        attempt=hourly_attempt(invoice.issued_at),
    )
    return gateway.invoice_retrieve(theirs.id)


def _footer(invoice: Invoice) -> str:
    """Write our lines, as many as fit; the whole is in our own document."""
    text = ""
    for line in invoice.lines.all():
        more = f"{line.model_ref} ({line.month:%Y-%m}): {line.calls} calls, "
        more += f"{format_usd(line.due_cents * CENT)}\n"
        if len(text) + len(more) > _FOOTER:
            text += "…\n"
            break
        text += more
    return f"{text}{settings.PUBLIC_URL}/dashboard/invoices/{invoice.pk}/"
