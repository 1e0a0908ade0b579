"""Where Stripe has a page of its own, so has the stand-in, with buttons and a clear label."""

from __future__ import annotations

import uuid
from urllib.parse import urlencode

import pytest

from billing.stripe.gateway import StripeGateway
from tests.stripe_standin import KEY, Handle, Reply
from tests.stripe_subscriber import subscriber

BACK, DONE = "http://127.0.0.1:1/back", "http://127.0.0.1:1/done"


def press(standin: Handle, url: str, **fields: str) -> Reply:
    """Send the page's form, as a browser does, without following where it leads."""
    answer = standin._pool.request(
        "POST",
        url,
        body=urlencode(fields),
        headers={"Content-Type": "application/x-www-form-urlencoded"},
        redirect=False,
    )
    return Reply(answer.status, answer.data.decode(), answer.headers)


def page(standin: Handle, url: str) -> str:
    reply = standin.raw("GET", url.removeprefix(standin.url))
    assert reply.status == 200
    assert "This is not Stripe. No money moves." in reply.json
    return str(reply.json)


@pytest.fixture
def checkout(standin: Handle) -> tuple[StripeGateway, str, str]:
    """A gateway, a session and its page."""
    gateway = StripeGateway(KEY, base=standin.url)
    customer = gateway.customer_ensure(uuid.uuid4().hex, "Org", "o@example.com")
    session = gateway.checkout_topup_create(
        customer,
        amount=1234,
        org_id="o",
        topup_id=uuid.uuid4().hex,
        success_url=f"{DONE}?session={{CHECKOUT_SESSION_ID}}",
        cancel_url=BACK,
    )
    return gateway, session.id, session.url


def test_the_pay_button_leads_to_the_shop(
    standin: Handle, checkout: tuple[StripeGateway, str, str]
) -> None:
    gateway, session, url = checkout
    assert "Pay 12.34 USD" in page(standin, url)
    reply = press(standin, url, card="pm_card_visa")
    assert (reply.status, reply.headers["Location"]) == (303, f"{DONE}?session={session}")
    assert gateway.checkout_session_retrieve(session).is_paid
    assert "This session is complete" in page(standin, url)


def test_going_back_pays_nothing(standin: Handle, checkout: tuple[StripeGateway, str, str]) -> None:
    gateway, session, url = checkout
    assert press(standin, url, card="cancel").headers["Location"] == BACK
    assert gateway.checkout_session_retrieve(session).status == "open"


def test_a_declined_card_is_told_on_a_page(
    standin: Handle, checkout: tuple[StripeGateway, str, str]
) -> None:
    reply = press(standin, checkout[2], card="pm_card_chargeDeclined")
    assert reply.status == 402
    assert "Your card was declined." in reply.json


def test_the_onboarding_page_names_the_account(standin: Handle) -> None:
    gateway = StripeGateway(KEY, base=standin.url)
    org_id = uuid.uuid4().hex
    account = gateway.vendor_account_create(org_id, name="V", email="v@example.com", country="US")
    url = gateway.vendor_account_link(account, refresh_url=BACK, return_url=DONE)
    assert account in page(standin, url)
    assert press(standin, url).headers["Location"] == DONE
    assert "was used" in page(standin, url)


def test_an_invoice_has_a_page(own_standin: Handle) -> None:
    one = subscriber(own_standin, days_until_due=30)
    one.use(5_000_000)
    final = one.gateway.invoice_finalize(one.close_period().id)
    assert "5.00 USD to pay" in page(own_standin, final.hosted_url)
    assert press(own_standin, final.hosted_url, card="pm_card_visa").status == 303
    assert "It is paid" in page(own_standin, final.hosted_url)


def test_no_such_page_is_a_404(standin: Handle) -> None:
    for path in ("checkout/cs_x", "onboard/x", "invoice/in_x", "nonsense"):
        assert standin.raw("GET", f"/_standin/{path}").status == 404
