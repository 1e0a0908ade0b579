"""The metered price and the subscription to it: what makes Stripe draw up a monthly invoice."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, cast

import stripe

from billing.stripe.client import Connection
from billing.stripe.errors import translated
from billing.stripe.records import Subscription, plain

CENTS_PER_MICRO_USD = Decimal("0.0001")
PRODUCT_NAME = "Usage of models"
_LIVE = ("active", "past_due", "unpaid", "incomplete", "paused", "trialing")


class SubscriptionCalls(Connection):
    """What is asked of Stripe about prices and subscriptions.

    All raise GatewayUnavailable or GatewayRefused.
    """

    def metered_price_ensure(
        self, meter_id: str, *, product_name: str = PRODUCT_NAME, attempt: int = 0
    ) -> str:
        """Return the id of the monthly price of a meter of micro-USD, made if there is none.

        One micro-USD costs 0.0001 cents, so that the invoice repeats what the ledger charged.
        The price is found by its lookup key, which Stripe keeps unique: two callers at once
        get the same price. After a 5xx (`is_stored`) pass the next `attempt`.
        """
        lookup_key = f"mercato:{meter_id}"
        with translated():
            if (found := self._price_find(lookup_key)) is not None:
                return found
            try:
                price = self._client.v1.prices.create(
                    {
                        "currency": "usd",
                        "unit_amount_decimal": CENTS_PER_MICRO_USD,
                        "billing_scheme": "per_unit",
                        "tax_behavior": "exclusive",
                        "recurring": {
                            "interval": "month",
                            "usage_type": "metered",
                            "meter": meter_id,
                        },
                        "product_data": {"name": product_name},
                        "lookup_key": lookup_key,
                    },
                    {"idempotency_key": f"price:{meter_id}:{attempt}"},
                )
            except stripe.InvalidRequestError:
                # Another process made it between our look and our create.
                if (found := self._price_find(lookup_key)) is not None:
                    return found
                raise
        return price.id

    def _price_find(self, lookup_key: str) -> str | None:
        page = self._client.v1.prices.list({"lookup_keys": [lookup_key], "active": True})
        return page.data[0].id if page.data else None

    def subscription_ensure(
        self,
        customer_id: str,
        price_id: str,
        org_id: str,
        *,
        automatic_tax: bool = False,
        days_until_due: int | None = None,
        attempt: int = 0,
    ) -> Subscription:
        """Return the customer's subscription to the price, made if there is none that lives.

        It is anchored on day 1, 00:00 UTC, without proration, so that periods are calendar
        months. Invoices are charged to the default payment method, or with `days_until_due`
        sent as a bill. Creation carries a key made of `org_id`, so a repeat within 24 hours
        returns the same one. After a 5xx (`is_stored`) pass the next `attempt`; Stripe is
        looked at first each time, so nothing is made twice.
        """
        if (found := self.subscription_find(customer_id, price_id)) is not None:
            return found
        params: dict[str, Any] = {
            "customer": customer_id,
            "items": [{"price": price_id}],
            "billing_cycle_anchor_config": {
                "day_of_month": 1, "hour": 0, "minute": 0, "second": 0
            },
            "proration_behavior": "none",
            "collection_method": "charge_automatically",
            "metadata": {"org_id": org_id},
        }  # fmt: skip
        if days_until_due is not None:
            params |= {"collection_method": "send_invoice", "days_until_due": days_until_due}
        if automatic_tax:
            params["automatic_tax"] = {"enabled": True}
        with translated():
            made = self._client.v1.subscriptions.create(
                cast("Any", params), {"idempotency_key": f"subscription:{org_id}:{attempt}"}
            )
        return Subscription.of(plain(made))

    def subscription_find(self, customer_id: str, price_id: str) -> Subscription | None:
        """Return the customer's living subscription to the price, if there is one."""
        with translated():
            page = self._client.v1.subscriptions.list(
                {"customer": customer_id, "price": price_id, "status": "all", "limit": 100}
            )
            for row in page.auto_paging_iter():
                if row.status in _LIVE:
                    return Subscription.of(plain(row))
        return None

    def subscription_retrieve(self, subscription_id: str) -> Subscription:
        """Return a subscription."""
        with translated():
            return Subscription.of(plain(self._client.v1.subscriptions.retrieve(subscription_id)))
