"""What tests of incoming money share: Stripe's side of it, and its webhooks in any order."""

import json
import time
from typing import Any

from django.test import Client

from billing.customers import customer_of, gateway_shared
from billing.models import StripeEvent, TopUp, Transfer, TransferKind, Wallet
from billing.stripe import inbox
from billing.stripe.gateway import StripeGateway
from marketplace.core.clock import now
from marketplace.local.stripe_standin.delivery import sign
from tests.stripe_standin import Handle

SECRET = "whsec_of_the_tests"


def gateway() -> StripeGateway:
    found = gateway_shared()
    assert found is not None
    return found


def pay(standin: Handle, url: str, card: str = "pm_card_visa") -> Any:
    """Do on Stripe's page what a customer does."""
    return standin.raw(
        "POST",
        url.removeprefix(standin.url),
        json.dumps({"card": card}),
        {"Content-Type": "application/json"},
    )


def events_of(standin: Handle, org_id: Any, *types: str) -> list[dict[str, Any]]:
    """Return the events that Stripe has about an organisation's customer, oldest first."""
    customer = Wallet.objects.get(org_id=org_id).stripe_customer_id
    payments = [
        row["id"]
        for row in standin.control("GET", "objects/payment_intent").json
        if row["customer"] == customer
    ]
    found = []
    for event in standin.control("GET", "objects/event").json:
        about = event["data"]["object"]
        if about.get("customer") == customer or about.get("payment_intent") in payments:
            found.append(event)
    return [event for event in found if not types or event["type"] in types]


def tell(event: dict[str, Any], secret: str = SECRET, at: float | None = None) -> Any:
    """Send one webhook as Stripe does."""
    body = json.dumps(event).encode()
    header = sign(body, secret, int(at or time.time()))
    return Client().post(
        "/stripe/webhook",
        body,
        content_type="application/json",
        headers={"Stripe-Signature": header},
    )


def process() -> int:
    """Process what is stored, as if every wait were over."""
    StripeEvent.objects.filter(delivery="pending").update(next_attempt_at=now())
    return inbox.events_process()


def hear(standin: Handle, org_id: Any, *types: str) -> None:
    """Have all of Stripe's events about an organisation told and processed."""
    for event in events_of(standin, org_id, *types):
        assert tell(event).status_code == 200
    process()


def save_card(standin: Handle, org_id: Any, card: str = "pm_card_visa") -> str:
    """Save a card with the organisation's customer, as its page at Stripe does."""
    customer = customer_of(gateway(), org_id)
    reply = standin.call("POST", f"/v1/payment_methods/{card}/attach", {"customer": customer})
    assert reply.status == 200, reply.json
    return str(reply.json["id"])


def cash_nano() -> int:
    """Return what the ledger says is in the bank: debits less credits of cash."""
    from billing.invariants import totals

    return -totals()["balance_cash"]


def credited(top_up: TopUp) -> int:
    """Return in how many ledger rows a top-up's payment was credited."""
    return Transfer.objects.filter(
        kind=TransferKind.TOP_UP, credit__org_id=top_up.org_id, occurred_at__gte=top_up.created_at
    ).count()
