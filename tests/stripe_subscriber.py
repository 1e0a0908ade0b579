"""A customer of the stand-in with a metered subscription, for the tests of the gateway."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from billing.stripe.gateway import StripeGateway
from billing.stripe.records import Invoice, Subscription
from tests.stripe_standin import KEY, Handle


@dataclass
class Subscriber:
    """One organisation at the stand-in; `now` is the stand-in's clock."""

    standin: Handle
    gateway: StripeGateway
    org_id: str
    customer: str
    meter: str
    event_name: str
    price: str
    subscription: Subscription

    def use(self, micro_usd: int, at: int | None = None) -> None:
        """Report usage; `at` in epoch seconds, now if left out."""
        identifier = uuid.uuid4().hex
        outcome = self.gateway.meter_event_send(
            self.event_name, identifier, self.customer, micro_usd, at or self.now(), identifier
        )
        assert outcome.delivered, outcome

    def now(self) -> int:
        """Return the stand-in's time."""
        now: int = self.standin.state()["now"]
        return now

    def go_to(self, at: int) -> None:
        """Set the stand-in's clock; from now on it stands."""
        assert self.standin.control("POST", "clock", {"now": at, "freeze": True}).status == 200

    def card(self, name: str = "pm_card_visa") -> str:
        """Save a test card as the one that invoices are charged to."""
        attach = f"/v1/payment_methods/{name}/attach"
        reply = self.standin.call("POST", attach, {"customer": self.customer})
        assert reply.status == 200, reply.json
        self.gateway.payment_method_default_set(self.customer, reply.json["id"])
        return str(reply.json["id"])

    def close_period(self) -> Invoice:
        """Let the running period end; return its draft."""
        end = self.gateway.subscription_retrieve(self.subscription.id).period_end
        self.go_to(end + 1)
        newest = self.gateway.invoices_list(self.customer)[0]
        assert (newest.status, newest.period_end) == ("draft", end)
        return newest


def subscriber(standin: Handle, *, days_until_due: int | None = None) -> Subscriber:
    """Make a customer with a meter, a price and a subscription of its own."""
    gateway = StripeGateway(KEY, base=standin.url)
    org_id = uuid.uuid4().hex
    event_name = f"spend_{org_id[:8]}"
    meter = gateway.meter_ensure(event_name, "Spend")
    price = gateway.metered_price_ensure(meter)
    customer = gateway.customer_ensure(org_id, "Org", "org@example.com")
    subscription = gateway.subscription_ensure(
        customer, price, org_id, days_until_due=days_until_due
    )
    return Subscriber(standin, gateway, org_id, customer, meter, event_name, price, subscription)
