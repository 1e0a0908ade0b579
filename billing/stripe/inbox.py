"""What Stripe tells us: verified, stored once, processed once, in whatever order it comes.

Areas register what they do with an event:

    @handles("invoice.paid")
    def _paid(event: StripeEvent, gateway: StripeGateway) -> None: ...

A handler asks Stripe for the object (`event.object_id`) first: the payload may be old, and
events come twice and out of order. Handlers run outside of a transaction, so that nothing is
locked while Stripe answers: what must hold together is written in an atomic block of the
handler's own, after the last question. One that raises undoes nothing of the others; then the
event comes again later, to all of them, so each must be safe to repeat. The event is done when
none has raised. `billing.apps` imports the modules that register.
"""

import json
from collections.abc import Callable, Sequence
from datetime import timedelta

import structlog
from django.conf import settings

from billing.customers import gateway_shared
from billing.invariants import incident_open
from billing.models import StripeEvent
from billing.stripe.gateway import GatewayUnavailable, StripeGateway, webhook_parse
from marketplace.core.clock import now
from marketplace.core.outbox import Delivery

log = structlog.get_logger("mercato.billing.stripe")

Handler = Callable[[StripeEvent, StripeGateway], None]
HANDLERS: dict[str, list[Handler]] = {}
_PRUNE_CHUNK = 5000


def handles(*types: str) -> Callable[[Handler], Handler]:
    """Register a function for event types, beside others that may have registered for them."""

    def register(handler: Handler) -> Handler:
        for type_ in types:
            HANDLERS.setdefault(type_, []).append(handler)
        return handler

    return register


def event_store(body: bytes, signature: str | None, secrets: Sequence[str]) -> str:
    """Verify and store one webhook; a repetition changes nothing. Returns the event's id.

    Raises WebhookRefused when it is not Stripe's, is too old, or is no event.
    """
    parsed = webhook_parse(body, signature, secrets)
    row = StripeEvent(
        id=parsed.id,
        type=parsed.type,
        object_id=parsed.object_id,
        account_id=parsed.account,
        thin=parsed.is_thin,
        payload=json.loads(body),
    )
    StripeEvent.objects.bulk_create([row], ignore_conflicts=True)
    return parsed.id


def _process(event: StripeEvent, gateway: StripeGateway) -> None:
    """Run every handler of an event. Raises the first failure, after all have had their turn."""
    failure: Exception | None = None
    for handler in HANDLERS.get(event.type, ()):
        try:
            handler(event, gateway)
        except Exception as error:  # the others have their own work to do
            failure = failure or error
    if failure is not None:
        raise failure
    event.mark_delivered()


def events_process(budget_s: float = 30.0) -> int:
    """Process stored events that are due. Returns how many are done; 0 without Stripe.

    Types that nobody handles are done at once. What fails is tried again with backoff, and in
    the end becomes an incident.
    """
    gateway = gateway_shared()
    if gateway is None:
        return 0
    done = 0
    for event in StripeEvent.claim_while(budget_s, chunk=4):
        try:
            _process(event, gateway)
            done += 1
        except Exception as error:  # one event must not stop the others
            log.warning("not processed", event_id=event.pk, type=event.type, error=repr(error))
            if event.is_exhausted:
                event.mark_failed(repr(error))
                incident_open(f"Stripe event failed: {event.type}", f"{event.pk}: {error!r}")
                continue
            patience = error.retry_after_s if isinstance(error, GatewayUnavailable) else None
            event.mark_retry(repr(error), patience)
    return done


def events_prune() -> int:
    """Delete events that were done long ago: Stripe repeats one for some days at most."""
    before = now() - timedelta(days=settings.STRIPE_EVENT_KEEP_DAYS)
    old = StripeEvent.objects.filter(delivery=Delivery.DELIVERED, delivered_at__lt=before)
    count, _ = StripeEvent.objects.filter(pk__in=old.values("pk")[:_PRUNE_CHUNK]).delete()
    return count
