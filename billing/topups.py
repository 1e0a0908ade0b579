"""Money paid in advance: a page at Stripe, then credit once, whoever hears of the payment first.

The webhook, the page that the customer returns to and the poll all call `top_up_refresh`: it
asks Stripe what is true now and writes that under a lock. Tax that Stripe adds is not in the
ledger: it is neither ours nor the customer's to spend.
"""

import uuid
from dataclasses import dataclass
from datetime import timedelta

import structlog
from django.conf import settings
from django.db import transaction
from django.urls import reverse

from billing.customers import customer_of, explained, gateway_required, gateway_shared
from billing.fees import fee_cents, fee_post
from billing.invariants import incident_open
from billing.models import StripeEvent, TopUp, TopUpState, Transfer, TransferKind
from billing.services import credit_top_up
from billing.stripe.attempts import made_for, within
from billing.stripe.gateway import StripeGateway
from billing.stripe.inbox import handles
from billing.stripe.records import CheckoutSession, PaymentIntent
from marketplace.accounts import audit
from marketplace.accounts.models import Organisation, User
from marketplace.core.clock import now
from marketplace.core.errors import InvalidInput, NotFound, TooManyRequests
from marketplace.core.ids import derived_id, new_id, parse_id
from marketplace.core.money import format_usd

log = structlog.get_logger("mercato.billing.topups")

NANO_PER_CENT = 10_000_000
LASTS = timedelta(hours=24)
"""How long Stripe keeps a Checkout page open, and remembers an Idempotency-Key."""
_GRACE = timedelta(hours=1)
_OPEN_PER_HOUR = 30
_POLL_CHUNK = 50
_BUDGET_S = 30.0


@dataclass(frozen=True, slots=True)
class Heard:
    """What Stripe says of a top-up now. Amounts in cents; `fee_cents` None: not known yet."""

    state: TopUpState
    payment_intent: str = ""
    cents: int = 0
    tax_cents: int = 0
    currency: str = "usd"
    failure: str = ""
    fee_cents: int | None = None


def check_cents(cents: int) -> None:
    """Raise InvalidInput for an amount that cannot be paid at once."""
    low, high = settings.TOP_UP_MIN_CENTS, settings.TOP_UP_MAX_CENTS
    if not low <= cents <= high:
        limits = f"{format_usd(low * NANO_PER_CENT)} to {format_usd(high * NANO_PER_CENT)}"
        raise InvalidInput("This amount is not possible.", fields={"amount": [f"{limits}."]})


def page_url(top_up_id: uuid.UUID) -> str:
    """Return the address of the page that says what became of a top-up."""
    return f"{settings.PUBLIC_URL}{reverse('top-up', args=[top_up_id])}"


def top_up_begin(
    *, org: Organisation, user: User | None, cents: int, key: str = "", save_card: bool = False
) -> tuple[TopUp, str]:
    """Open a page at Stripe on which `cents` of credit are paid. Returns the top-up and its URL.

    A repetition with the same `key` returns the same page. Raises InvalidInput for the amount,
    PaymentsAway when Stripe cannot be asked.
    """
    check_cents(cents)
    gateway = gateway_required()
    top_up_id = derived_id("checkout", org.pk, key) if key else new_id()
    top_up = _top_up_open(top_up_id, org, user, cents)
    if top_up.state != TopUpState.PENDING:
        return top_up, page_url(top_up.pk)
    with explained():
        session = _session_make(gateway, top_up, save_card=save_card)
    TopUp.objects.filter(pk=top_up.pk, checkout_id="").update(checkout_id=session.id)
    return top_up, session.url or page_url(top_up.pk)


def _top_up_open(top_up_id: uuid.UUID, org: Organisation, user: User | None, cents: int) -> TopUp:
    recent = TopUp.objects.for_org(org).filter(
        automatic=False, state=TopUpState.PENDING, created_at__gte=now() - timedelta(hours=1)
    )
    known = TopUp.objects.for_org(org).filter(pk=top_up_id).first()
    if known is None and recent.count() >= _OPEN_PER_HOUR:
        raise TooManyRequests("Too many payments were begun. Finish one, or wait an hour.")
    if known is None:
        known, is_new = TopUp.objects.get_or_create(
            pk=top_up_id, defaults={"org": org, "by": user, "cents": cents}
        )
        if is_new:
            audit.record(org=org, action="billing.top_up", target=known.pk, cents=cents)
    if known.cents != cents:
        raise InvalidInput(
            "This key was used for another amount.",
            fields={"amount": [f"It was {format_usd(known.cents * NANO_PER_CENT)}."]},
        )
    return known


def _session_make(gateway: StripeGateway, top_up: TopUp, *, save_card: bool) -> CheckoutSession:
    customer = customer_of(gateway, top_up.org_id)
    if top_up.checkout_id:
        return gateway.checkout_session_retrieve(top_up.checkout_id)
    here = page_url(top_up.pk)
    return made_for(
        top_up,
        lambda attempt: gateway.checkout_topup_create(
            customer,
            amount=top_up.cents,
            org_id=str(top_up.org_id),
            topup_id=str(top_up.pk),
            success_url=here,
            cancel_url=f"{here}?left=1",
            automatic_tax=settings.STRIPE_AUTOMATIC_TAX,
            save_card=save_card,
            attempt=attempt,
        ),
        lambda: gateway.checkout_session_find(customer, str(top_up.pk)),
    )


def top_up_get(*, org: Organisation, top_up_id: object) -> TopUp:
    """Return a top-up of an organisation. Raises NotFound."""
    found = TopUp.objects.for_org(org).filter(pk=parse_id(top_up_id)).first()
    if found is None:
        raise NotFound("There is no such top-up.")
    return found


def top_up_refresh(gateway: StripeGateway, top_up: TopUp) -> TopUp:
    """Ask Stripe what became of a top-up and write it down; safe to repeat and to race.

    Raises GatewayError. Even one that failed or expired is credited if it was paid after all.
    """
    if top_up.state != TopUpState.PAID:
        heard = _heard(gateway, top_up)
        if heard is not None:
            top_up_apply(top_up.pk, heard)
            top_up.refresh_from_db()
    return top_up


def _heard(gateway: StripeGateway, top_up: TopUp) -> Heard | None:
    """Return what Stripe says, or None if nothing has happened yet."""
    customer = customer_of(gateway, top_up.org_id)
    if top_up.automatic:
        intent = gateway.payment_intent_find(customer, str(top_up.pk))
        return heard_of_intent(gateway, intent) if intent else None
    session = (
        gateway.checkout_session_retrieve(top_up.checkout_id)
        if top_up.checkout_id
        else gateway.checkout_session_find(customer, str(top_up.pk))
    )
    if session is None or session.status == "open":
        is_over = now() > top_up.created_at + LASTS + _GRACE
        return Heard(TopUpState.EXPIRED) if is_over else None
    if session.status == "expired":
        return Heard(TopUpState.EXPIRED)
    if session.is_paid:
        return Heard(
            TopUpState.PAID,
            session.payment_intent,
            session.amount_total - session.amount_tax,
            session.amount_tax,
            session.currency,
            fee_cents=fee_cents(gateway, [session.payment_intent]),
        )
    if session.status == "complete" and session.payment_intent:
        # Paid by a method that takes days: it may still fail.
        intent = gateway.payment_intent_retrieve(session.payment_intent)
        if intent.status in ("requires_payment_method", "canceled"):
            return Heard(TopUpState.FAILED, failure=reason_of(intent))
    return Heard(TopUpState.PENDING)


def heard_of_intent(gateway: StripeGateway, intent: PaymentIntent) -> Heard:
    """Return what a payment by a saved card means for its top-up."""
    if intent.is_paid:
        fee = fee_cents(gateway, [intent.id])
        return Heard(
            TopUpState.PAID, intent.id, intent.amount_received, 0, intent.currency, fee_cents=fee
        )
    if intent.status == "processing":
        return Heard(TopUpState.PENDING)
    return Heard(TopUpState.FAILED, failure=reason_of(intent))


def reason_of(intent: PaymentIntent) -> str:
    """Say in a few words why a payment failed."""
    return (intent.decline_code or intent.status).replace("_", " ")


@transaction.atomic
def top_up_apply(top_up_id: uuid.UUID, heard: Heard) -> bool:
    """Write down what was heard; money is credited once. Returns whether anything changed."""
    top_up = TopUp.objects.select_for_update().get(pk=top_up_id)
    if top_up.state in (TopUpState.PAID, heard.state):
        return False
    if heard.state == TopUpState.PAID:
        if (heard.cents, heard.currency) != (top_up.cents, "usd"):
            incident_open(
                "top-up paid with another amount",
                f"{top_up.pk}: {heard.cents} {heard.currency} instead of {top_up.cents} usd",
            )
            return False
        credit_top_up(
            org_id=top_up.org_id,
            amount_nano=heard.cents * NANO_PER_CENT,
            source=heard.payment_intent,
        )
        top_up.transfer = Transfer.objects.get(
            source_id=derived_id("top_up", heard.payment_intent), kind=TransferKind.TOP_UP
        )
        top_up.payment_intent_id, top_up.tax_cents = heard.payment_intent, heard.tax_cents
        if heard.fee_cents:
            fee_post(top_up.pk, heard.fee_cents)
    elif heard.state == TopUpState.PENDING:
        return False
    top_up.state, top_up.failure, top_up.ended_at = heard.state, heard.failure[:300], now()
    top_up.save()
    log.info("top-up", top_up=str(top_up.pk), state=top_up.state)
    return True


def top_ups_poll() -> int:
    """Ask about top-ups that wait, in case no webhook comes. Returns how many ended."""
    gateway = gateway_shared()
    if gateway is None:
        return 0
    waiting = TopUp.objects.filter(state=TopUpState.PENDING, automatic=False)
    quarter = now() - timedelta(minutes=15)
    young = waiting.filter(created_at__gte=quarter).order_by("?")[:_POLL_CHUNK]
    older = waiting.filter(created_at__lt=quarter).order_by("?")[:_POLL_CHUNK]
    ended = 0
    for top_up in within(_BUDGET_S, [*young, *older]):
        try:
            top_up_refresh(gateway, top_up)
        except Exception as error:  # one must not stop the others
            log.warning("top-up not asked", top_up=str(top_up.pk), error=repr(error))
        ended += top_up.state != TopUpState.PENDING
    return ended


def _own(event: StripeEvent) -> TopUp | None:
    """Return the top-up that an event is about. Raises NotFound for one that we should have."""
    metadata: dict[str, str] = event.snapshot.get("metadata") or {}
    if metadata.get("purpose") != "topup":  # recharges are heard of by their own module
        return None
    top_up = TopUp.objects.filter(pk=parse_id(metadata.get("mercato_id"))).first()
    if top_up is None:
        raise NotFound(f"Stripe knows of a top-up {metadata.get('mercato_id')} that we do not.")
    return top_up


@handles(
    "checkout.session.completed",
    "checkout.session.async_payment_succeeded",
    "checkout.session.async_payment_failed",
    "checkout.session.expired",
)
def _session_changed(event: StripeEvent, gateway: StripeGateway) -> None:
    top_up = _own(event)
    if top_up is not None:
        top_up.checkout_id = top_up.checkout_id or event.object_id
        top_up_refresh(gateway, top_up)
        TopUp.objects.filter(pk=top_up.pk, checkout_id="").update(checkout_id=event.object_id)


@handles("payment_intent.succeeded", "payment_intent.payment_failed", "payment_intent.canceled")
def _payment_changed(event: StripeEvent, gateway: StripeGateway) -> None:
    top_up = _own(event)
    if top_up is not None:
        top_up_refresh(gateway, top_up)
