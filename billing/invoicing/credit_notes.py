"""Tells Stripe of credit notes on invoices that it has."""

import structlog

from billing.customers import gateway_shared
from billing.invariants import incident_open
from billing.invoicing.attempts import hourly_attempt
from billing.models import CreditNote
from billing.stripe.gateway import GatewayError, GatewayRefused, StripeGateway

log = structlog.get_logger("mercato.billing.credit_notes")


def credit_notes_relay(limit: int = 100) -> int:
    """Tell Stripe of credit notes on invoices that it has. Returns how many it has accepted.

    A note that comes back as prepaid money is settled out of band: the money is in our wallet.
    """
    gateway = gateway_shared()
    if gateway is None:
        return 0
    due = CreditNote.objects.filter(
        stripe_credit_note_id="", cents__gt=0, invoice__stripe_finalized_at__isnull=False
    ).select_related("invoice")
    done = 0
    for note in due.order_by("created_at")[:limit]:
        try:
            done += _note(gateway, note)
        except GatewayError as error:
            log.warning("credit note not at Stripe", note=note.number, error=str(error)[:300])
            if isinstance(error, GatewayRefused):
                incident_open(f"refused by Stripe: {note.number}", str(error))
    return done


def _note(gateway: StripeGateway, note: CreditNote) -> bool:
    stripe_id = note.invoice.stripe_invoice_id
    if not stripe_id:
        return False
    there = [
        row.id
        for row in gateway.credit_notes_list(stripe_id)
        if row.metadata.get("mercato_id") == str(note.pk)
    ]
    if not there:
        made = gateway.credit_note_create(
            stripe_id,
            amount=gateway.invoice_retrieve(stripe_id).with_tax(note.cents),
            note_id=str(note.pk),
            settle="out_of_band",
            memo=note.number,
            attempt=hourly_attempt(note.created_at),
        )
        there = [made.id]
    CreditNote.objects.filter(pk=note.pk).update(stripe_credit_note_id=there[0])
    return True
