"""What Stripe tells of invoices and meters, and what we do with it."""

from billing import meter_checks
from billing.invariants import incident_open
from billing.invoicing import follow
from billing.models import StripeEvent
from billing.stripe.gateway import METER_ERROR_EVENTS, GatewayUnavailable, StripeGateway
from billing.stripe.inbox import handles


@handles(
    "invoice.created",
    "invoice.finalized",
    "invoice.updated",
    "invoice.paid",
    "invoice.voided",
    "invoice.marked_uncollectible",
)
def _invoice(event: StripeEvent, _: StripeGateway) -> None:
    """Look at the invoice as Stripe has it now, whatever the event says."""
    follow.heard(event.object_id)


@handles("invoice.payment_failed")
def _payment_failed(event: StripeEvent, _: StripeGateway) -> None:
    follow.payment_failed(event.object_id)


@handles(*METER_ERROR_EVENTS)
def _meter_errors(event: StripeEvent, gateway: StripeGateway) -> None:
    """Quarantine the batches that Stripe accepted and then did not count.

    Raises GatewayUnavailable, after all else, while Stripe's count is too young to tell.
    """
    young: GatewayUnavailable | None = None
    for failure in gateway.meter_failures_fetch(event.pk):
        incident_open(f"meter errors: {failure.code}", f"{failure.count} events: {failure.message}")
        try:
            meter_checks.quarantine(failure)
        except GatewayUnavailable as error:
            young = error
    if young is not None:
        raise young
