"""Staff see top-ups, disputes and Stripe's events, replay events, and send unused money back."""

import re

import pytest
from django.test import Client

from billing import returns, topups
from billing.models import StripeEvent, TopUpReturn
from billing.selectors import balance_of
from marketplace.core.money import to_nano
from tests.billing.conftest import payments
from tests.billing.payin import gateway, hear, pay
from tests.cast import staff_sign_in
from tests.stripe_standin import shared_standin, standin

__all__ = ["payments", "shared_standin", "standin"]
pytestmark = pytest.mark.django_db


@pytest.fixture
def sam(cast):
    client = Client()
    staff_sign_in(client, cast.sam)
    return client


@pytest.fixture
def paid(cast, payments):
    top_up, url = topups.top_up_begin(org=cast.developer, user=cast.bob, cents=2000, key="x")
    pay(payments, url)
    topups.top_up_refresh(gateway(), top_up)
    return top_up


def send_back(sam, top_up, amount):
    page = "/console/billing/topup/"
    nonce = re.search(r'name="nonce" value="([0-9a-f-]+)"', sam.get(page).content.decode())[1]
    body = {
        "action": "send_back", "_selected_action": str(top_up.pk), "return_usd": amount,
        "note": "asked for", "nonce": nonce,
    }  # fmt: skip
    return sam.post(page, body, follow=True).content.decode(), body


@pytest.mark.parametrize("name", ["topup", "topupreturn", "dispute", "stripeevent"])
def test_the_lists_open(cast, sam, payments, paid, name):
    hear(payments, cast.developer.pk)
    assert sam.get(f"/console/billing/{name}/").status_code == 200


def test_unused_money_goes_back(cast, sam, payments, paid):
    text, body = send_back(sam, paid, "15")
    assert "goes back to the card" in text
    sam.post("/console/billing/topup/", body)
    assert TopUpReturn.objects.count() == 1
    assert balance_of(cast.developer.pk).prepaid_nano == to_nano("6")
    assert returns.returns_send() == 1
    assert TopUpReturn.objects.get().by == cast.sam


@pytest.mark.parametrize("amount", ["", "20.01"])
def test_a_wrong_amount_moves_nothing(cast, sam, payments, paid, amount):
    send_back(sam, paid, amount)
    assert not TopUpReturn.objects.exists()


def test_a_failed_event_is_replayed(cast, sam, payments, paid):
    StripeEvent.objects.create(pk="evt_1", type="a.b", payload={}, delivery="failed")
    sam.post(
        "/console/billing/stripeevent/", {"action": "replay", "_selected_action": "evt_1"}
    )  # fmt: skip
    assert StripeEvent.objects.get(pk="evt_1").delivery == "pending"
