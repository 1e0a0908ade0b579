"""What people do at Stripe in a simulated month, and what Stripe must know at its end."""

from __future__ import annotations

import random
from collections import defaultdict
from typing import Any, Protocol

from django.db.models import F, Sum
from django.db.models.functions import Coalesce

from billing import connect, topups
from billing.customers import PaymentsAway, customer_of, gateway_required
from billing.meter_ids import EVENT_NAMES
from billing.models import Funding, Incident, MeterBatch, Payout, PayoutState, TopUp, Wallet
from billing.payouts import payout_approve
from billing.stripe.errors import GatewayError
from marketplace.core.errors import MarketError
from marketplace.simulation.people import Cast

PAGE = "https://market.example/payouts/"


class Side(Protocol):
    """Stripe's side of the world: its own pages and its memory."""

    def control(self, path: str, body: Any = None, method: str = "POST") -> Any:
        """Call a route of the stand-in's own with JSON."""

    def call(self, path: str, fields: dict[str, str]) -> Any:
        """Call Stripe's API as something that is not ours does: a page in a browser."""


def enrol(rng: random.Random, side: Side, cast: Cast) -> None:
    """Let vendors open accounts to be paid to, and customers who owe save a card."""
    for vendor in cast.vendors:
        if rng.random() < 0.8:
            url = connect.onboarding_begin(org=vendor, country="FR", page_url=PAGE)
            side.control(f"onboard/{url.rpartition('/')[2]}", {})
            connect.account_refresh(org_id=vendor.pk)
            connect.minimum_set(org=vendor, cents=100)
    gateway = gateway_required()
    for customer in cast.customers:
        if customer.postpaid and rng.random() < 0.8:
            known = customer_of(gateway, customer.org.pk)
            saved = side.call("/v1/payment_methods/pm_card_visa/attach", {"customer": known})
            gateway.payment_method_default_set(known, saved["id"])


def pay(rng: random.Random, side: Side, cast: Cast) -> str:
    """Let a customer pay in advance on Stripe's page, and perhaps not come back from it."""
    customer = rng.choice(cast.customers)
    try:
        _, url = topups.top_up_begin(org=customer.org, user=None, cents=rng.choice((500, 1000)))
        side.control(f"checkout/{url.rpartition('/')[2]}", {})
    except (PaymentsAway, MarketError, GatewayError, OSError) as error:
        return f"no payment: {type(error).__name__}"
    return "paid at Stripe"


def approve(cast: Cast) -> None:
    """Let staff look at the payouts that wait for them."""
    for payout in Payout.objects.filter(state=PayoutState.INTENT, needs_approval=True):
        payout_approve(statement_id=payout.pk, by=cast.staff)


def differences(side: Side) -> list[tuple[str, list[Any]]]:
    """Compare what Stripe has with what we have told it, and been told. Returns what differs."""
    found = [
        ("Stripe's meters count what was sealed", _meters(side)),
        ("payouts are Stripe's transfers", _payouts(side)),
        ("every payment at Stripe is credited once", _top_ups(side)),
        ("no meter batch waits or failed", list(_undelivered())),
    ]
    return [(rule, rows) for rule, rows in found if rows]


def _meters(side: Side) -> list[Any]:
    heard: dict[tuple[str, str], int] = defaultdict(int)
    for event in side.control("state?events=1", method="GET")["events"]:
        payload = event["payload"]
        heard[payload["stripe_customer_id"], event["event_name"]] += int(payload["value"])
    customers = dict(Wallet.objects.values_list("org_id", "stripe_customer_id"))
    rows = MeterBatch.objects.values("org_id", "funding").annotate(sum=Sum("micro_usd"))
    told = {
        (customers[row["org_id"]], EVENT_NAMES[Funding(row["funding"])]): row["sum"] for row in rows
    }
    keys = {key for key in heard | told if heard.get(key, 0) != told.get(key, 0)}
    return [(*key, heard.get(key, 0), told.get(key, 0)) for key in sorted(keys)]


def _undelivered() -> Any:
    return MeterBatch.objects.exclude(delivery="delivered").values_list("pk", "last_error")[:20]


def _payouts(side: Side) -> list[Any]:
    made = {
        row["id"]: row["amount"] - row.get("amount_reversed", 0)
        for row in side.control("objects/transfer", method="GET")
    }
    sent = dict(
        Payout.objects.filter(state=PayoutState.SENT).values_list(
            "stripe_transfer_id", F("cents") - F("reversed_cents")
        )
    )
    return sorted(set(made.items()) ^ set(sent.items()))


def _top_ups(side: Side) -> list[Any]:
    paid = sum(
        row["amount_total"]
        for row in side.control("objects/checkout.session", method="GET")
        if row["payment_status"] == "paid" and row["mode"] == "payment"
    )
    credited = TopUp.objects.filter(state="paid", automatic=False).aggregate(
        sum=Coalesce(Sum(F("cents") + F("tax_cents")), 0)
    )["sum"]
    return [] if paid == credited else [(paid, credited)]


def incidents() -> list[str]:
    """Return the rules that incidents were opened for."""
    return list(Incident.objects.filter(resolved_at=None).values_list("rule", flat=True))
