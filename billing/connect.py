"""Vendors' accounts at Stripe Connect: opening one, what it may do, and what is asked for."""

import re
import uuid

import structlog
from django.db import transaction

from billing.customers import email_of, explained, gateway_required
from billing.models import PayoutAccount, StripeEvent
from billing.stripe.gateway import GatewayRefused, GatewayUnavailable, StripeGateway
from billing.stripe.inbox import handles
from billing.stripe.records_connect import VendorAccount
from marketplace.accounts.models import Organisation
from marketplace.core.clock import now
from marketplace.core.errors import InvalidInput
from marketplace.core.money import format_usd

log = structlog.get_logger("mercato.billing.connect")

MINIMUM_CENTS, MAXIMUM_CENTS = 100, 1_000_000
_CLOSED = "Your account at Stripe was closed. Open a new one."
_COUNTRY = re.compile(r"[A-Z]{2}")
_WORDS = {
    "external_account": "a bank account to pay to",
    "identity.attestations.terms_of_service": "agreement to Stripe's terms",
    "identity.individual": "who you are",
    "identity.individual.address": "your address",
    "identity.individual.date_of_birth": "your date of birth",
    "identity.individual.email": "your e-mail address",
    "identity.individual.given_name": "your first name",
    "identity.individual.surname": "your family name",
    "identity.individual.phone": "your telephone number",
    "identity.individual.id_numbers": "your tax or identity number",
    "identity.individual.documents": "a document that shows who you are",
    "identity.business_details": "what your business is",
    "identity.business_details.address": "your business's address",
    "identity.business_details.registered_name": "your business's registered name",
    "identity.business_details.id_numbers": "your business's tax number",
    "identity.business_details.documents": "a document that shows what your business is",
    "identity.entity_type": "whether you are a person or a business",
    "contact_email": "an e-mail address",
}


def requirement_words(name: str) -> str:
    """Say in plain words what Stripe asks for; the nearest known part of its name counts."""
    parts = re.sub(r"\[[^\]]*\]", "", name).split(".")
    for length in range(len(parts), 0, -1):
        if words := _WORDS.get(".".join(parts[:length])):
            return words
    return parts[-1].replace("_", " ")


def requirements_words(account: PayoutAccount) -> list[str]:
    """Return what Stripe still asks for, each thing once."""
    return list(dict.fromkeys(requirement_words(name) for name in account.requirements))


def _ensure(org: Organisation) -> PayoutAccount:
    return PayoutAccount.objects.get_or_create(org=org)[0]


def onboarding_begin(*, org: Organisation, country: str, page_url: str) -> str:
    """Open the vendor's account if there is none; returns Stripe's page to be filled in.

    `page_url` is where the vendor comes back to, with `?from=stripe` when done and `?again=1`
    when the page has expired. Raises InvalidInput for the country, PaymentsAway without Stripe.
    """
    gateway = gateway_required()
    account = _ensure(org)
    with explained():
        if not account.stripe_account_id:
            account = _open(gateway, org, account, country.strip().upper())
        try:
            return gateway.vendor_account_link(
                account.stripe_account_id,
                refresh_url=f"{page_url}?again=1",
                return_url=f"{page_url}?from=stripe",
            )
        except GatewayRefused as error:
            raise InvalidInput(f"Stripe refused: {error}") from error


def _open(
    gateway: StripeGateway, org: Organisation, account: PayoutAccount, country: str
) -> PayoutAccount:
    """Create the account at Stripe and store its id: the first to store one wins."""
    if not _COUNTRY.fullmatch(country):
        raise InvalidInput(
            "In which country are you?", fields={"country": ["Two letters, such as FR."]}
        )
    try:
        made = gateway.vendor_account_create(
            str(org.pk), name=org.name, email=email_of(org), country=country,
            attempt=account.key_attempt,
        )  # fmt: skip
    except (GatewayRefused, GatewayUnavailable) as error:
        if isinstance(error, GatewayRefused) or error.is_stored:
            PayoutAccount.objects.filter(pk=org.pk, key_attempt=account.key_attempt).update(
                key_attempt=account.key_attempt + 1
            )
        if isinstance(error, GatewayRefused):
            raise InvalidInput(
                f"Stripe refused: {error}", fields={"country": ["Stripe refused it."]}
            ) from error
        raise
    PayoutAccount.objects.filter(pk=org.pk, stripe_account_id="").update(
        stripe_account_id=made, country=country, problem=""
    )
    account.refresh_from_db()
    return account


def account_refresh(*, org_id: uuid.UUID) -> PayoutAccount | None:
    """Ask Stripe what an account may do now, and store it. None if the vendor has none.

    Raises PaymentsAway when Stripe cannot be asked.
    """
    with explained():
        return account_refetch(gateway_required(), org_id)


def account_refetch(gateway: StripeGateway, org_id: uuid.UUID) -> PayoutAccount | None:
    """As `account_refresh`, for those who have a gateway; raises what it raises."""
    account = PayoutAccount.objects.filter(pk=org_id).first()
    if account is None or not account.stripe_account_id:
        return None
    return _store(org_id, gateway.vendor_account_retrieve(account.stripe_account_id))


@transaction.atomic
def _store(org_id: uuid.UUID, found: VendorAccount) -> PayoutAccount:
    account = PayoutAccount.objects.select_for_update().get(pk=org_id)
    account.enabled = found.can_be_paid
    account.requirements = list(found.requirements)
    account.country = found.country or account.country
    account.seen_at = now()
    if found.closed:
        # Another account needs another key: under the old one Stripe would return this one.
        account.stripe_account_id, account.requirements = "", []
        account.key_attempt += 1
        account.problem, account.problem_mailed_at = _CLOSED, None
    account.save()
    return account


def minimum_set(*, org: Organisation, cents: int) -> PayoutAccount:
    """Set from which amount on a vendor is paid out. Raises InvalidInput if out of range."""
    if not MINIMUM_CENTS <= cents <= MAXIMUM_CENTS:
        raise InvalidInput(
            "This minimum is not possible.",
            fields={
                "minimum": [
                    f"{format_usd(MINIMUM_CENTS * 10**7)} to {format_usd(MAXIMUM_CENTS * 10**7)}."
                ]
            },
        )
    account = _ensure(org)
    PayoutAccount.objects.filter(pk=account.pk).update(minimum_cents=cents)
    account.minimum_cents = cents
    return account


@handles(
    "v2.core.account[requirements].updated",
    "v2.core.account[configuration.recipient].capability_status_updated",
)
def _account_changed(event: StripeEvent, gateway: StripeGateway) -> None:
    account = PayoutAccount.objects.filter(stripe_account_id=event.object_id).first()
    if account is not None and event.object_id:
        account_refetch(gateway, account.pk)


@handles("payout.failed", "payout.paid")
def _bank_answered(event: StripeEvent, gateway: StripeGateway) -> None:
    """Keep why the vendor's bank refused a payout, until a later one arrives."""
    account = PayoutAccount.objects.filter(stripe_account_id=event.account_id).first()
    if account is None or not event.account_id:
        return
    found = gateway.payout_retrieve(event.object_id, event.account_id)
    problem = ""
    if found.status == "failed":
        why = found.failure_message or found.failure_code or "Stripe does not say why"
        problem = f"Your bank refused a payout: {why}. Give Stripe another bank account."[:300]
    elif found.status != "paid":
        return
    if problem != account.problem:
        PayoutAccount.objects.filter(pk=account.pk).update(problem=problem, problem_mailed_at=None)
