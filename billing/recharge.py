"""Automatic recharge: when little is left, charge the saved card, within limits.

Nothing is locked by a flag. Whether a recharge may be tried follows each time from the
top-ups there are: one in flight (a constraint), few in a short time, none soon after a decline,
and the organisation's own limit for a month.
"""

import uuid
from datetime import datetime, timedelta
from itertools import chain

import structlog
from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import F, Sum
from django.urls import reverse

from billing.customers import customer_of, explained, gateway_required, gateway_shared
from billing.mail import mail_after_commit
from billing.models import (
    BillingProfile,
    Dispute,
    DisputeState,
    StripeEvent,
    TopUp,
    TopUpState,
)
from billing.selectors import balance_of
from billing.stripe.attempts import key_is_due, made_for, made_once, within
from billing.stripe.gateway import (
    GatewayRefused,
    GatewayUnavailable,
    PaymentDeclined,
    StripeGateway,
)
from billing.stripe.inbox import handles
from billing.stripe.records import CheckoutSession, PaymentMethod
from billing.topups import (
    LASTS,
    NANO_PER_CENT,
    Heard,
    check_cents,
    heard_of_intent,
    top_up_apply,
)
from marketplace.accounts import audit
from marketplace.accounts.models import Organisation
from marketplace.core.clock import now
from marketplace.core.errors import InvalidInput, NotFound
from marketplace.core.ids import derived_id, parse_id
from marketplace.core.money import format_usd

log = structlog.get_logger("mercato.billing.recharge")

BURST = 3
BURST_WITHIN = timedelta(minutes=10)
REST_AFTER_DECLINE = timedelta(hours=1)
REST_AFTER_DISPUTE = timedelta(days=90)
"""Whose payment was taken back may not have been the owner of the card."""
_BUDGET_S = 30.0


def _month_start() -> datetime:
    return now().replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def charged_this_month(org_id: uuid.UUID) -> int:
    """Return the cents that automatic recharges took, or may yet take, in this UTC month."""
    rows = TopUp.objects.for_org(org_id).filter(
        automatic=True,
        created_at__gte=_month_start(),
        state__in=[TopUpState.PAID, TopUpState.PENDING],
    )
    return int(rows.aggregate(total=Sum("cents"))["total"] or 0)


def why_not_now(profile: BillingProfile) -> str:
    """Say why no recharge may begin now, or "" if one may; the balance is not looked at."""
    if profile.recharge_below_nano is None or not profile.recharge_cents:
        return "Automatic recharge is off."
    if not profile.payment_method_id:
        return "No card is saved."
    disputed = Dispute.objects.for_org(profile.org_id).exclude(state=DisputeState.WON)
    if disputed.filter(created_at__gt=now() - REST_AFTER_DISPUTE).exists():
        return "A payment was disputed: recharges wait, pay by hand."
    rows = TopUp.objects.for_org(profile.org_id).filter(automatic=True)
    if rows.filter(state=TopUpState.PENDING).exists():
        return "A recharge is under way."
    if rows.filter(state=TopUpState.FAILED, ended_at__gt=now() - REST_AFTER_DECLINE).exists():
        return "The last recharge was declined: the next try is an hour after it."
    if rows.filter(created_at__gt=now() - BURST_WITHIN).count() >= BURST:
        return f"{BURST} recharges in 10 minutes: the next one waits."
    limit = profile.recharge_monthly_cents
    if limit and charged_this_month(profile.org_id) + profile.recharge_cents > limit:
        return "The monthly limit for recharges is reached."
    return ""


def _begin(profile: BillingProfile) -> TopUp | None:
    """Note the intent to recharge. None if it may not be now, or another process was first."""
    profile.refresh_from_db()  # it may have been switched off since it was listed
    below = profile.recharge_below_nano
    if below is None or balance_of(profile.org_id).available_nano >= below:
        return None
    if why_not_now(profile):
        return None
    number = TopUp.objects.for_org(profile.org_id).filter(automatic=True).count() + 1
    try:
        with transaction.atomic():
            return TopUp.objects.create(
                pk=derived_id("recharge", profile.org_id, number),
                org_id=profile.org_id,
                cents=profile.recharge_cents,
                automatic=True,
            )
    except IntegrityError:
        return None


def _charge(gateway: StripeGateway, top_up: TopUp) -> Heard:
    """Charge the card of a recharge, at most once. Raises GatewayUnavailable when in doubt."""
    customer = customer_of(gateway, top_up.org_id)
    profile = BillingProfile.objects.get(org_id=top_up.org_id)
    if not profile.payment_method_id:
        return Heard(TopUpState.FAILED, failure="no card is saved")
    try:
        intent = made_for(
            top_up,
            lambda attempt: gateway.payment_off_session(
                customer,
                profile.payment_method_id,
                amount=top_up.cents,
                org_id=str(top_up.org_id),
                topup_id=str(top_up.pk),
                attempt=attempt,
            ),
            lambda: gateway.payment_intent_find(customer, str(top_up.pk)),
        )
    except PaymentDeclined as error:
        why = "the bank wants you to confirm it" if error.needs_customer else str(error)
        return Heard(TopUpState.FAILED, failure=why.removeprefix("402: "))
    except GatewayRefused as error:
        if not error.is_final:
            raise GatewayUnavailable(f"not decided: {error}") from error
        return Heard(TopUpState.FAILED, failure=str(error))
    return heard_of_intent(gateway, intent)


def _settle(gateway: StripeGateway, top_up: TopUp, *, look_first: bool) -> bool:
    """Bring a recharge on its way to an end. Raises GatewayUnavailable when in doubt.

    Returns whether it got there: after errors that Stripe stores it waits for its next key.

    One whose outcome is unknown is looked for at Stripe before it is sent again: under the same
    key, and never after a day, when Stripe may have forgotten the key.
    """
    heard: Heard | None = None
    if look_first:
        customer = customer_of(gateway, top_up.org_id)
        intent = gateway.payment_intent_find(customer, str(top_up.pk))
        heard = heard_of_intent(gateway, intent) if intent else None
        if heard is None and now() > top_up.created_at + LASTS - timedelta(hours=1):
            heard = Heard(TopUpState.EXPIRED, failure="Stripe has never heard of it")
        if heard is None and not key_is_due(top_up):
            return False
    recharge_apply(top_up, heard or _charge(gateway, top_up))
    return True


@transaction.atomic
def recharge_apply(top_up: TopUp, heard: Heard) -> None:
    """Write down how a recharge ended; the first decline in a row is told by e-mail."""
    if not top_up_apply(top_up.pk, heard) or heard.state != TopUpState.FAILED:
        return
    before = TopUp.objects.for_org(top_up.org_id).filter(
        automatic=True, created_at__lt=top_up.created_at
    )
    last = before.order_by("-created_at").first()
    if last is not None and last.state == TopUpState.FAILED:
        return
    amount = format_usd(top_up.cents * NANO_PER_CENT)
    mail_after_commit(
        Organisation.objects.get(pk=top_up.org_id),
        "Your automatic recharge was declined",
        [
            f"{amount} could not be charged to your saved card: {heard.failure}.",
            "The next try is in an hour. Jobs that the balance cannot pay for are refused.",
            f"Save another card here: {settings.PUBLIC_URL}{reverse('recharge')}",
        ],
    )


def recharges_run() -> int:
    """Begin recharges that are due, and settle those on their way. Returns how many ended."""
    gateway = gateway_shared()
    if gateway is None:
        return 0
    pending = TopUp.objects.filter(automatic=True, state=TopUpState.PENDING).order_by("?")
    waiting = [(row, True) for row in pending]
    profiles = BillingProfile.objects.filter(
        recharge_below_nano__isnull=False, recharge_cents__gt=0
    ).exclude(payment_method_id="")
    # A cheap look at the wallets first; grants may still lift what is available.
    short = profiles.annotate(
        money=Sum(
            F("org__wallet_shards__prepaid_nano") + F("org__wallet_shards__limit_nano")
            - F("org__wallet_shards__owed_nano") - F("org__wallet_shards__held_nano")
        )
    ).filter(money__lt=F("recharge_below_nano"))  # fmt: skip
    begun = ((row, False) for profile in short.order_by("?") if (row := _begin(profile)))
    ended = 0
    for top_up, look_first in within(_BUDGET_S, chain(begun, waiting)):
        try:
            ended += _settle(gateway, top_up, look_first=look_first)
        except Exception as error:  # one organisation must not stop the others
            log.warning("recharge undecided", top_up=str(top_up.pk), error=repr(error))
    return ended


def recharge_set(
    *, org: Organisation, below_nano: int | None, cents: int, monthly_cents: int = 0
) -> BillingProfile:
    """Recharge by `cents` when less than `below_nano` is available; None turns it off.

    `monthly_cents` is the most that is charged automatically in a UTC month, 0 for no limit.
    """
    problems: dict[str, list[str]] = {}
    if below_nano is not None:
        check_cents(cents)
        if not 0 < below_nano <= settings.TOP_UP_MAX_CENTS * NANO_PER_CENT:
            problems["below"] = ["Out of range."]
        if monthly_cents and monthly_cents < cents:
            problems["monthly"] = ["Less than one recharge."]
    if not 0 <= monthly_cents < 2**31:
        problems["monthly"] = ["Out of range."]
    if problems:
        raise InvalidInput("Some fields are wrong.", fields=problems)
    profile, _ = BillingProfile.objects.update_or_create(
        org=org,
        defaults={
            "recharge_below_nano": below_nano,
            "recharge_cents": cents if below_nano is not None else 0,
            "recharge_monthly_cents": monthly_cents,
        },
    )
    audit.record(
        org=org,
        action="billing.recharge",
        target="off" if below_nano is None else "on",
        below_nano=below_nano,
        cents=cents,
        monthly_cents=monthly_cents,
    )
    return profile


def card_begin(*, org: Organisation, key: str) -> str:
    """Return the URL of a page at Stripe on which a card is saved; nothing is charged."""
    gateway = gateway_required()
    here = f"{settings.PUBLIC_URL}{reverse('recharge')}"
    setup_id = str(derived_id("setup", org.pk, key))
    with explained():
        customer = customer_of(gateway, org.pk)
        session = made_once(
            lambda attempt: gateway.checkout_setup_create(
                customer,
                org_id=str(org.pk),
                setup_id=setup_id,
                success_url=f"{here}?saved={setup_id}",
                cancel_url=here,
                attempt=attempt,
            ),
            lambda: gateway.checkout_session_find(customer, setup_id),
        )
    return session.url or f"{here}?saved={setup_id}"


def card_refresh(gateway: StripeGateway, org_id: uuid.UUID) -> PaymentMethod | None:
    """Use the card that was saved last from now on, and return it; None if there is none."""
    customer = customer_of(gateway, org_id)
    cards = gateway.payment_methods_list(customer)
    if not cards:
        return None
    profile, _ = BillingProfile.objects.get_or_create(org_id=org_id)
    if profile.payment_method_id != cards[0].id:
        gateway.payment_method_default_set(customer, cards[0].id)
        BillingProfile.objects.filter(org_id=org_id).update(payment_method_id=cards[0].id)
    return cards[0]


def card_saved(gateway: StripeGateway, org_id: uuid.UUID, setup_id: str) -> None:
    """Use the card that was saved on the page that `card_begin` opened under `setup_id`.

    Changes nothing if there is no such page of this organisation, it was not finished, or its
    card is not the newest that Stripe has.
    """
    if parse_id(setup_id) is None:
        return
    session = gateway.checkout_session_find(customer_of(gateway, org_id), setup_id)
    if session is not None:
        _adopt(gateway, org_id, session)


def card_of(gateway: StripeGateway, profile: BillingProfile) -> PaymentMethod | None:
    """Return the card that recharges are charged to, as Stripe shows it; None without one."""
    if not profile.payment_method_id:
        return None
    found = gateway.payment_methods_list(customer_of(gateway, profile.org_id))
    return next((card for card in found if card.id == profile.payment_method_id), None)


def card_forget(*, org: Organisation) -> None:
    """Have Stripe forget every saved card: recharge is off until another one is saved.

    Raises PaymentsAway, and forgets nothing here, while Stripe does not confirm it.
    """
    if (gateway := gateway_shared()) is not None:
        with explained():
            customer = customer_of(gateway, org.pk)
            for card in gateway.payment_methods_list(customer):
                try:
                    gateway.payment_method_detach(card.id)
                except GatewayRefused:  # another process was first
                    if card.id in {left.id for left in gateway.payment_methods_list(customer)}:
                        raise
    BillingProfile.objects.for_org(org).update(payment_method_id="")
    audit.record(org=org, action="billing.card", target="forgotten")


@handles("checkout.session.completed")
def _card_saved(event: StripeEvent, gateway: StripeGateway) -> None:
    """Take the card when one was saved, on a page for it or along with a top-up."""
    metadata: dict[str, str] = event.snapshot.get("metadata") or {}
    org = Organisation.objects.filter(pk=parse_id(metadata.get("org_id"))).first()
    if org is None:
        return
    session = gateway.checkout_session_retrieve(event.object_id)
    if session.customer == customer_of(gateway, org.pk):
        _adopt(gateway, org.pk, session)


def _adopt(gateway: StripeGateway, org_id: uuid.UUID, session: CheckoutSession) -> None:
    """Use the card of a session from now on, unless it was not kept, or is not the newest."""
    if session.status != "complete":
        return
    if session.mode == "payment":
        used = gateway.payment_intent_retrieve(session.payment_intent).payment_method
    else:
        used = gateway.setup_intent_retrieve(session.setup_intent).payment_method
    cards = gateway.payment_methods_list(session.customer)
    if cards and cards[0].id == used:
        card_refresh(gateway, org_id)


@handles("payment_intent.succeeded", "payment_intent.payment_failed", "payment_intent.canceled")
def _recharge_changed(event: StripeEvent, gateway: StripeGateway) -> None:
    """Hear of a recharge at once, and of the decline that its own call may have missed."""
    metadata: dict[str, str] = event.snapshot.get("metadata") or {}
    if metadata.get("purpose") != "recharge":
        return
    top_up = TopUp.objects.filter(pk=parse_id(metadata.get("mercato_id"))).first()
    if top_up is None:
        raise NotFound(f"Stripe knows of a recharge {metadata.get('mercato_id')} that we do not.")
    if top_up.state != TopUpState.PAID:
        intent = gateway.payment_intent_retrieve(event.object_id)
        recharge_apply(top_up, heard_of_intent(gateway, intent))
