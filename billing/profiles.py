"""How an organisation is billed: name, address and tax id, kept the same at Stripe.

Stripe computes the tax (STRIPE_AUTOMATIC_TAX) from the address and the tax ids of its customer.
"""

import re
from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import transaction

from billing.customers import customer_of, explained, gateway_shared, profile_push
from billing.models import BillingProfile
from billing.stripe.gateway import GatewayRefused, StripeGateway
from marketplace.accounts import audit
from marketplace.accounts.models import Organisation
from marketplace.core.errors import InvalidInput

FIELDS = (
    "legal_name", "email", "address", "city", "state", "postal_code", "country",
    "tax_id_type", "tax_id",
)  # fmt: skip
TAX_ID_TYPES = {
    "eu_vat": "EU VAT number",
    "gb_vat": "UK VAT number",
    "us_ein": "US EIN",
    "ca_bn": "Canadian BN",
    "ca_gst_hst": "Canadian GST/HST number",
    "au_abn": "Australian ABN",
    "nz_gst": "New Zealand GST number",
    "ch_vat": "Swiss VAT number",
    "ch_uid": "Swiss UID",
    "no_vat": "Norwegian VAT number",
    "in_gst": "Indian GST number",
    "jp_trn": "Japanese registration number",
    "kr_brn": "Korean BRN",
    "sg_gst": "Singaporean GST number",
    "br_cnpj": "Brazilian CNPJ",
    "mx_rfc": "Mexican RFC",
    "za_vat": "South African VAT number",
    "ae_trn": "Emirati TRN",
    "il_vat": "Israeli VAT number",
    "tr_tin": "Turkish tax number",
}
"""The kinds of tax id that are offered, as Stripe names them."""


def profile_of(org: Organisation) -> BillingProfile:
    """Return the billing profile; empty and unsaved if there is none yet."""
    found = BillingProfile.objects.for_org(org).first()
    return found or BillingProfile(org=org)


def _check(profile: BillingProfile) -> None:
    problems: dict[str, list[str]] = {}
    for name in FIELDS:
        limit = getattr(BillingProfile._meta.get_field(name), "max_length", None) or 0
        if len(getattr(profile, name)) > limit:
            problems[name] = [f"At most {limit} characters."]
    if profile.email:
        try:
            validate_email(profile.email)
        except ValidationError:
            problems["email"] = ["Not an e-mail address."]
    if profile.country and not re.fullmatch(r"[A-Z]{2}", profile.country):
        problems["country"] = ["Two letters (ISO 3166), such as FR."]
    if profile.address and not profile.country:
        problems["country"] = ["An address needs its country."]
    if profile.tax_id and profile.tax_id_type not in TAX_ID_TYPES:
        problems["tax_id_type"] = ["Say what kind of number it is."]
    if profile.tax_id_type and not profile.tax_id:
        problems["tax_id"] = ["The number is missing."]
    if problems:
        raise InvalidInput("Some fields are wrong.", fields=problems)


def profile_save(*, org: Organisation, **changes: Any) -> BillingProfile:
    """Change what invoices say, here and at Stripe. Fields that are not given stay.

    Nothing is saved if Stripe refuses (InvalidInput names the field) or does not answer
    (PaymentsAway). Without Stripe it is saved here, and told when the customer is made there.
    """
    if unknown := changes.keys() - set(FIELDS):
        raise InvalidInput(f"Unknown: {', '.join(sorted(unknown))}.")
    profile = profile_of(org)
    for name, value in changes.items():
        setattr(profile, name, str(value or "").strip())
    profile.country = profile.country.upper()
    profile.tax_id = re.sub(r"\s+", "", profile.tax_id)
    _check(profile)
    gateway = gateway_shared()
    if gateway is not None:
        with explained():
            _tell(gateway, org, profile)
    with transaction.atomic():
        BillingProfile.objects.update_or_create(
            org=org, defaults={name: getattr(profile, name) for name in FIELDS}
        )
        audit.record(org=org, action="billing.profile", fields=sorted(changes))
    return profile_of(org)


def _tell(gateway: StripeGateway, org: Organisation, profile: BillingProfile) -> None:
    customer = customer_of(gateway, org.pk)
    try:
        profile_push(gateway, customer, profile)
    except GatewayRefused as error:
        text = str(error).removeprefix("400: ")
        names = {"tax_id_invalid": "tax_id", "email_invalid": "email"}
        field = names.get(error.code) or ("tax_id" if "tax" in text.lower() else "country")
        raise InvalidInput("Stripe refused this.", fields={field: [text[:300]]}) from error
