"""The pages on which money comes in: the form, the return page, the card, the details."""

import re

import pytest

from billing import recharge
from billing.models import BillingProfile, TopUp
from billing.selectors import balance_of
from marketplace.core.ids import derived_id
from marketplace.core.money import to_nano
from tests.billing.conftest import payments
from tests.billing.payin import gateway, hear, pay, save_card
from tests.stripe_standin import shared_standin, standin

__all__ = ["payments", "shared_standin", "standin"]
pytestmark = pytest.mark.django_db
PAGES = ["/dashboard/billing/profile/", "/dashboard/billing/recharge/"]


def key_of(client):
    page = client.get("/dashboard/billing/").content.decode()
    return re.search(r'name="key" value="([0-9a-f-]{36})"', page)[1]


def send(client, **fields):
    body = {"key": key_of(client), **fields}
    return client.post("/dashboard/billing/top-ups/", body)


def test_paying_leads_to_stripe_and_back_to_a_receipt(cast, bob, payments):
    answer = send(bob, amount="25")
    assert answer.status_code == 302
    assert answer["Location"].startswith(payments.url)
    assert pay(payments, answer["Location"]).status == 200
    top_up = TopUp.objects.get()
    page = bob.get(f"/dashboard/billing/top-ups/{top_up.pk}/").content.decode()
    assert "Receipt" in page
    assert "$25.00" in page
    assert balance_of(cast.developer.pk).prepaid_nano == to_nano("26")
    assert "Receipt" in bob.get("/dashboard/billing/").content.decode()


def test_the_way_to_stripe_is_a_target_that_forms_may_have(bob, payments):
    policy = bob.get("/dashboard/billing/")["Content-Security-Policy"]
    assert re.search(r"form-action[^;]*https://checkout\.stripe\.com", policy)


def test_the_page_says_while_it_waits_and_when_one_left(cast, bob, payments):
    send(bob, amount="12.50")
    top_up = TopUp.objects.get()
    assert top_up.cents == 1250
    path = f"/dashboard/billing/top-ups/{top_up.pk}/"
    assert "has not confirmed" in bob.get(path).content.decode()
    assert "Nothing was charged" in bob.get(f"{path}?left=1").content.decode()
    live = bob.get(path, headers={"HX-Request": "true"}).content.decode()
    assert "<html" not in live
    payments.fault("drop_before", match="/v1/checkout", times=1)
    assert bob.get(path).status_code == 200


def test_a_form_that_is_sent_twice_opens_one_payment(bob, payments):
    body = {"key": key_of(bob), "amount": "10"}
    first, second = (bob.post("/dashboard/billing/top-ups/", body) for _ in range(2))
    assert first["Location"] == second["Location"]
    other = bob.post("/dashboard/billing/top-ups/", body | {"amount": "25"})
    assert other["Location"] != first["Location"]


@pytest.mark.parametrize("fields", [{}, {"amount": "4.99"}, {"amount": "x"}])
def test_a_wrong_amount_is_said_at_the_field(bob, payments, fields):
    answer = send(bob, **fields)
    assert answer.status_code == 422
    assert "problem" in answer.content.decode()
    assert not TopUp.objects.exists()


def test_others_cannot_see_or_pay(cast, bob, charlie, visitor, payments):
    send(bob, amount="10")
    path = f"/dashboard/billing/top-ups/{TopUp.objects.get().pk}/"
    assert charlie.get(path).status_code == 404
    assert visitor.get(path).status_code == 302
    for page in PAGES:
        assert visitor.get(page).status_code == 302


def test_who_sees_to_billing_may_pay_and_a_developer_may_not(cast, dora, payments):
    from marketplace.accounts.models import Membership

    assert send(dora, amount="10").status_code == 302
    Membership.objects.filter(user__email="dora@example.org").update(role="developer")
    answer = dora.post("/dashboard/billing/top-ups/", {"amount": "10"})
    assert answer.status_code == 403
    for page in PAGES:
        assert dora.get(page).status_code == 200
        assert dora.post(page, {}).status_code == 403


def test_a_card_is_saved_and_the_rule_is_set(cast, bob, payments):
    page = "/dashboard/billing/recharge/"
    answer = bob.post("/dashboard/billing/card/", {"key": "once"})
    assert pay(payments, answer["Location"]).status == 200
    setup = derived_id("setup", cast.developer.pk, "once")
    assert "•••• 4242" in bob.get(f"{page}?saved={setup}").content.decode()
    rule = {"enabled": "on", "below": "5", "amount": "20", "monthly": ""}
    assert bob.post(page, rule).status_code == 302
    profile = BillingProfile.objects.get()
    assert (profile.recharge_below_nano, profile.recharge_cents) == (to_nano("5"), 2000)
    assert recharge.recharges_run() == 1
    assert "$20.00" in bob.get(page).content.decode()
    payments.fault("drop_before", match="/v1/customers", times=1)
    assert "cannot be shown" in bob.get(page).content.decode()
    assert bob.post("/dashboard/billing/card/", {"forget": "1"}).status_code == 302
    assert "None. Stripe keeps" in bob.get(page).content.decode()
    assert bob.post(page, {"enabled": "on", "below": "5"}).status_code == 422


def test_a_decline_is_shown(cast, bob, payments):
    recharge.recharge_set(org=cast.developer, below_nano=to_nano("5"), cents=2000)
    save_card(payments, cast.developer.pk, "pm_card_chargeCustomerFail")
    recharge.card_refresh(gateway(), cast.developer.pk)
    recharge.recharges_run()
    text = bob.get("/dashboard/billing/").content.decode()
    assert "Declined" in text
    assert "the next try is an hour after it" in text


def test_details_are_saved_or_refused_at_the_field(cast, bob, payments):
    page = "/dashboard/billing/profile/"
    body = {"legal_name": "Bob & Co", "country": "fr", "city": "Paris", "address": "1 Rue"}
    assert bob.post(page, body).status_code == 302
    assert "Bob &amp; Co" in bob.get(page).content.decode()
    answer = bob.post(page, body | {"tax_id": "123"})
    assert answer.status_code == 422
    assert "what kind of number" in answer.content.decode()


def test_a_disputed_payment_is_shown(cast, bob, payments):
    answer = send(bob, amount="25")
    pay(payments, answer["Location"], "pm_card_createDispute")
    hear(payments, cast.developer.pk)
    assert "Disputed payments" in bob.get("/dashboard/billing/").content.decode()


def test_without_stripe_the_pages_say_so(bob, settings):
    settings.STRIPE_API_KEY = ""
    assert "not set up" in bob.get("/dashboard/billing/").content.decode()
    for page in PAGES:
        assert bob.get(page).status_code == 200
    assert bob.post("/dashboard/billing/card/", {"key": "x"}).status_code == 302
