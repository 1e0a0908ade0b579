"""The one gateway of this process, and the Stripe customer of each organisation, made once."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import structlog
from django.conf import settings

from billing.models import BillingProfile, Wallet
from billing.stripe.gateway import (
    GatewayError,
    GatewayRefused,
    GatewayUnavailable,
    StripeGateway,
    gateway_from_settings,
)
from billing.wallets import wallet_ensure
from marketplace.accounts.models import Organisation
from marketplace.core.errors import MarketError

log = structlog.get_logger("mercato.billing.customers")


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
        settings.STRIPE_METER_EVENTS_BASE,
    )


def gateway_required() -> StripeGateway:
    """Return the gateway. Raises PaymentsAway without Stripe."""
    gateway = gateway_shared()
    if gateway is None:
        raise PaymentsAway("Payments are not set up on this installation: Stripe has no key here.")
    return gateway


@contextmanager
def explained() -> Iterator[None]:
    """Turn errors of the gateway into the PaymentsAway that people are shown."""
    try:
        yield
    except GatewayRefused as error:
        log.error("Stripe refused", error=str(error))
        raise PaymentsAway(f"Stripe refused this: {error}.", code="payments_refused") from error
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
    if profile is not None and (profile.country or profile.tax_id):
        try:
            profile_push(gateway, wallet.stripe_customer_id, profile)
        except GatewayError as error:  # the customer is made: saving the profile tells it again
            log.warning("billing profile not told", org=str(org_id), error=repr(error))
    return wallet.stripe_customer_id


def profile_push(gateway: StripeGateway, customer: str, profile: BillingProfile) -> None:
    """Make a customer at Stripe what the profile says. Raises GatewayError."""
    first, _, rest = profile.address.partition("\n")
    address = {
        "line1": first.strip(),
        "line2": " ".join(rest.split()),
        "city": profile.city,
        "state": profile.state,
        "postal_code": profile.postal_code,
        "country": profile.country,
    }
    gateway.customer_update(
        customer,
        name=profile.legal_name or profile.org.name,
        email=profile.email or None,
        address=address if profile.country else None,
    )
    wanted = {profile.tax_id_type: profile.tax_id} if profile.tax_id else {}
    gateway.customer_tax_ids_set(customer, wanted)


def org_of_customer(customer_id: str) -> uuid.UUID | None:
    """Return the organisation that has a Stripe customer, or None: it is not ours."""
    found = Wallet.objects.filter(stripe_customer_id=customer_id).values_list("org_id", flat=True)
    return found.first() if customer_id else None
