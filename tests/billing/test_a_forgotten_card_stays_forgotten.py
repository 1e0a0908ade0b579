"""A card that is forgotten is gone at Stripe too, and no link brings one back."""

import pytest
from django.test import Client

from billing import recharge
from billing.customers import PaymentsAway
from billing.models import BillingProfile, TopUp
from billing.stripe.gateway import GatewayRefused
from marketplace.core.ids import derived_id
from tests.billing.payin import events_of, gateway, hear, pay, process, save_card, tell
from tests.billing.test_balances_recharge_themselves import set_up

pytestmark = pytest.mark.django_db
PAGE = "/dashboard/billing/recharge/"


@pytest.fixture(autouse=True)
def _plain_static(settings):
    settings.STORAGES = {
        **settings.STORAGES,
        "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
    }


@pytest.fixture
def bob(cast):
    client = Client()
    client.force_login(cast.bob)
    return client


def used():
    return BillingProfile.objects.get().payment_method_id


def setup_of(org, key):
    return derived_id("setup", org.pk, key)


def saved_on_page(cast, payments, key, card="pm_card_visa"):
    assert pay(payments, recharge.card_begin(org=cast.developer, key=key), card).status == 200
    return setup_of(cast.developer, key)


def test_stripe_forgets_every_card_and_its_default(cast, payments, bob):
    save_card(payments, cast.developer.pk, "pm_card_mastercard")
    set_up(cast, payments)
    assert bob.post("/dashboard/billing/card/", {"forget": "1"}).status_code == 302
    customer = next(
        row
        for row in payments.control("GET", "objects/customer").json
        if row["metadata"].get("org_id") == str(cast.developer.pk)
    )
    assert gateway().payment_methods_list(customer["id"]) == ()
    assert customer["invoice_settings"]["default_payment_method"] is None
    assert used() == ""


def test_no_link_brings_it_back(cast, payments, bob):
    setup = saved_on_page(cast, payments, "one")
    assert bob.get(f"{PAGE}?saved={setup}").status_code == 200
    assert used() != ""
    set_rule = {"enabled": "on", "below": "2", "amount": "20", "monthly": ""}
    assert bob.post(PAGE, set_rule).status_code == 302
    bob.post("/dashboard/billing/card/", {"forget": "1"})
    for link in ("1", setup):
        bob.get(f"{PAGE}?saved={link}")
        assert used() == ""
    for event in events_of(payments, cast.developer.pk):
        tell(event)
    process()
    assert used() == ""
    assert recharge.recharges_run() == 0
    assert not TopUp.objects.exists()


def test_a_link_adopts_only_the_card_of_a_finished_page_of_the_organisation(cast, payments, bob):
    recharge.recharge_set(org=cast.developer, below_nano=10**9, cents=2000)
    save_card(payments, cast.developer.pk)  # not by a page of ours
    opened = recharge.card_begin(org=cast.developer, key="open")
    others = recharge.card_begin(org=cast.stranger, key="theirs")
    assert pay(payments, others).status == 200
    for link in ("1", "x", setup_of(cast.developer, "open"), setup_of(cast.stranger, "theirs")):
        bob.get(f"{PAGE}?saved={link}")
        assert used() == ""
    assert pay(payments, opened, "pm_card_mastercard").status == 200
    bob.get(f"{PAGE}?saved={setup_of(cast.developer, 'open')}")
    card = recharge.card_of(gateway(), BillingProfile.objects.get(org=cast.developer))
    assert card is not None
    assert card.last4 == "4444"


def test_an_older_page_does_not_replace_a_newer_card(cast, payments, bob):
    first = saved_on_page(cast, payments, "one")
    saved_on_page(cast, payments, "two", "pm_card_mastercard")
    hear(payments, cast.developer.pk)
    newest = used()
    bob.get(f"{PAGE}?saved={first}")
    assert used() == newest


def test_while_stripe_is_away_it_is_not_said_to_be_forgotten(cast, payments):
    set_up(cast, payments)
    payments.fault("drop_before", match="/v1/payment_methods", times=9)
    with pytest.raises(PaymentsAway):
        recharge.card_forget(org=cast.developer)
    assert used() != ""


def test_a_detached_card_is_detached_once_and_pays_nothing(cast, payments):
    set_up(cast, payments)
    card = used()
    gateway().payment_method_detach(card)
    with pytest.raises(GatewayRefused):
        gateway().payment_method_detach(card)
    recharge.recharges_run()
    assert TopUp.objects.get().state == "failed"
    reply = payments.call("POST", f"/v1/payment_methods/{card}/detach", {"customer": "x"})
    assert reply.status == 400
