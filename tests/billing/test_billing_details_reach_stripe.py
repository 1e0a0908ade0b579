"""Name, address and tax id of an organisation are the same here and at Stripe."""

import pytest

from billing.customers import PaymentsAway, customer_of
from billing.models import BillingProfile, Wallet
from billing.profiles import profile_of, profile_save
from marketplace.core.errors import InvalidInput
from tests.billing.payin import gateway

pytestmark = pytest.mark.django_db
GOOD = {
    "legal_name": "Bob's Builders GmbH", "email": "bills@example.org",
    "address": "Hauptstraße 1\nHinterhaus", "postal_code": "10115", "city": "Berlin",
    "country": "de", "tax_id_type": "eu_vat", "tax_id": "DE 123456789",
}  # fmt: skip


def at_stripe(payments, cast):
    customer = Wallet.objects.get(org=cast.developer).stripe_customer_id
    return payments.call("GET", f"/v1/customers/{customer}").json


def test_what_is_saved_is_told(cast, payments):
    profile_save(org=cast.developer, **GOOD)
    customer = at_stripe(payments, cast)
    assert (customer["name"], customer["email"]) == ("Bob's Builders GmbH", "bills@example.org")
    assert customer["address"]["line1"] == "Hauptstraße 1"
    assert (customer["address"]["country"], customer["address"]["postal_code"]) == ("DE", "10115")
    found = gateway().customer_tax_ids(customer["id"])
    assert [(row.type, row.value) for row in found] == [("eu_vat", "DE123456789")]
    assert profile_of(cast.developer).address_lines[-2:] == ["10115 Berlin", "DE"]


def test_a_tax_id_is_replaced_and_removed(cast, payments):
    profile_save(org=cast.developer, **GOOD)
    profile_save(org=cast.developer, tax_id_type="ch_vat", tax_id="CHE-1")
    customer = Wallet.objects.get(org=cast.developer).stripe_customer_id
    assert [row.value for row in gateway().customer_tax_ids(customer)] == ["CHE-1"]
    profile_save(org=cast.developer, tax_id_type="", tax_id="")
    assert gateway().customer_tax_ids(customer) == ()
    assert profile_of(cast.developer).legal_name == GOOD["legal_name"]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"country": "Germany"}, "country"),
        ({"country": "", "address": "Somewhere 1"}, "country"),
        ({"email": "bills@"}, "email"),
        ({"tax_id_type": "", "tax_id": "1"}, "tax_id_type"),
        ({"tax_id_type": "made_up", "tax_id": "1"}, "tax_id_type"),
        ({"tax_id_type": "eu_vat", "tax_id": ""}, "tax_id"),
        ({"legal_name": "x" * 201}, "legal_name"),
    ],
)
def test_what_is_wrong_is_named_and_not_saved(cast, payments, change, field):
    with pytest.raises(InvalidInput) as refusal:
        profile_save(org=cast.developer, **{**GOOD, **change})
    assert field in refusal.value.fields
    assert not BillingProfile.objects.exists()


def test_nothing_is_saved_while_stripe_is_away(cast, payments):
    payments.fault("drop_before", match="/v1/customers", times=9)
    with pytest.raises(PaymentsAway):
        profile_save(org=cast.developer, **GOOD)
    assert not BillingProfile.objects.exists()


def test_without_stripe_it_is_saved_and_told_when_the_customer_is_made(cast, payments, settings):
    key, settings.STRIPE_API_KEY = settings.STRIPE_API_KEY, ""
    profile_save(org=cast.developer, **GOOD)
    settings.STRIPE_API_KEY = key
    customer_of(gateway(), cast.developer.pk)
    assert at_stripe(payments, cast)["address"]["city"] == "Berlin"
    assert at_stripe(payments, cast)["name"] == "Bob's Builders GmbH"
