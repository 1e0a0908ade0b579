"""Stripe's subscriptions: what makes it draw up an invoice at the end of each month."""

import uuid

import structlog
from django.conf import settings
from django.db.models import Exists, OuterRef, Q

from billing.customers import customer_of, gateway_shared
from billing.invariants import incident_open
from billing.meter_ids import meter_id
from billing.models import Funding, Wallet, WalletShard
from billing.stripe.gateway import GatewayError, GatewayRefused, GatewayUnavailable, StripeGateway

log = structlog.get_logger("mercato.billing.subscriptions")


def subscriptions_ensure(limit: int = 200) -> int:
    """Subscribe organisations that may owe or do owe to the metered price. Returns how many."""
    gateway = gateway_shared()
    if gateway is None:
        return 0
    credit = WalletShard.objects.filter(org=OuterRef("org")).filter(
        Q(limit_nano__gt=0) | Q(owed_nano__gt=0)
    )
    done = 0
    for wallet in Wallet.objects.filter(Exists(credit), stripe_subscription_id="").select_related(
        "org"
    )[:limit]:
        try:
            done += bool(subscription_of(gateway, wallet.org_id))
        except GatewayError as error:
            log.warning("no subscription yet", org=str(wallet.org_id), error=str(error)[:300])
            if isinstance(error, GatewayRefused):  # with tax, Stripe wants the address first
                incident_open(f"no subscription: {wallet.org.slug[:30]}", str(error))
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
            customer,
            price,
            str(org_id),
            automatic_tax=settings.STRIPE_AUTOMATIC_TAX,
            attempt=wallet.stripe_subscription_attempt,
        )
    except (GatewayUnavailable, GatewayRefused) as error:
        # Stripe would repeat its answer for a day, also when the address is known by then.
        if isinstance(error, GatewayRefused) or error.is_stored:
            Wallet.objects.filter(
                pk=wallet.pk, stripe_subscription_attempt=wallet.stripe_subscription_attempt
            ).update(stripe_subscription_attempt=(wallet.stripe_subscription_attempt + 1) % 30_000)
        raise
    Wallet.objects.filter(pk=wallet.pk).update(stripe_subscription_id=made.id)
    return made.id
