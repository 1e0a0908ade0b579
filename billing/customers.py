"""The one gateway of this process, and the Stripe customer of each organisation, made once."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

from django.conf import settings

from billing.models import Wallet
from billing.stripe.gateway import GatewayUnavailable, StripeGateway, gateway_from_settings
from billing.wallets import wallet_ensure
from marketplace.accounts.models import Organisation
from marketplace.core.errors import MarketError


class PaymentsAway(MarketError):
    """Stripe is not configured here, or does not answer now."""

    status = 503
    code = "payments_unavailable"


@lru_cache(maxsize=4)
def _gateway_for(*_configuration: str) -> StripeGateway | None:
    return gateway_from_settings()


def gateway_shared() -> StripeGateway | None:
    """Return the gateway, or None without Stripe; one per configuration keeps its connections."""
    return _gateway_for(
        settings.STRIPE_API_KEY,
        settings.STRIPE_API_BASE,
        getattr(settings, "STRIPE_METER_EVENTS_BASE", ""),
    )


def gateway_required() -> StripeGateway:
    """Return the gateway. Raises PaymentsAway without Stripe."""
    gateway = gateway_shared()
    if gateway is None:
        raise PaymentsAway("Payments are not set up on this installation: Stripe has no key here.")
    return gateway


@contextmanager
def explained() -> Iterator[None]:
    """Turn a GatewayUnavailable into the PaymentsAway that people are shown."""
    try:
        yield
    except GatewayUnavailable as error:
        raise PaymentsAway(
            "Stripe does not answer at the moment. Nothing is lost: try again in a minute."
        ) from error


def email_of(org: Organisation) -> str:
    """Return where the organisation's bills go: the address it gave, or its owner's."""
    profile = getattr(org, "billing_profile", None)
    if profile is not None and profile.email:
        return str(profile.email)
    owner = org.memberships.filter(role="owner").select_related("user").first()
    return owner.user.email if owner else ""


def customer_of(gateway: StripeGateway, org_id: uuid.UUID) -> str:
    """Return the organisation's Stripe customer, made once: the first to store it wins.

    Raises GatewayUnavailable or GatewayRefused. Call it outside of a transaction.
    """
    wallet = wallet_ensure(org_id)
    if wallet.stripe_customer_id:
        return wallet.stripe_customer_id
    org = Organisation.objects.get(pk=org_id)
    profile = getattr(org, "billing_profile", None)
    name = profile.legal_name if profile is not None and profile.legal_name else org.name
    try:
        customer = gateway.customer_ensure(
            str(org.pk), name, email_of(org), attempt=wallet.stripe_customer_attempt
        )
    except GatewayUnavailable as error:
        if error.is_stored:
            # Stripe would replay this 5xx under the same key for a day: take another key.
            Wallet.objects.filter(
                pk=wallet.pk, stripe_customer_attempt=wallet.stripe_customer_attempt
            ).update(stripe_customer_attempt=wallet.stripe_customer_attempt + 1)
        raise
    Wallet.objects.filter(pk=wallet.pk, stripe_customer_id="").update(stripe_customer_id=customer)
    wallet.refresh_from_db(fields=["stripe_customer_id"])
    return wallet.stripe_customer_id


def org_of_customer(customer_id: str) -> uuid.UUID | None:
    """Return the organisation that has a Stripe customer, or None: it is not ours."""
    found = Wallet.objects.filter(stripe_customer_id=customer_id).values_list("org_id", flat=True)
    return found.first() if customer_id else None
