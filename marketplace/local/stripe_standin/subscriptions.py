"""Subscriptions to metered prices, and the passing of their monthly periods."""

from __future__ import annotations

import calendar
from datetime import UTC, datetime
from typing import Any

from marketplace.local.stripe_standin import invoicing
from marketplace.local.stripe_standin.calls import (
    Body,
    Call,
    get_object,
    list_objects,
    merge_metadata,
    refuse_unsupported,
)
from marketplace.local.stripe_standin.errors import ApiError
from marketplace.local.stripe_standin.work import Work

_KNOWN = {
    "automatic_tax", "backdate_start_date", "billing_cycle_anchor_config", "collection_method",
    "currency", "customer", "days_until_due", "default_payment_method", "description", "expand",
    "items", "metadata", "off_session", "proration_behavior",
}  # fmt: skip


def create(call: Call) -> Body:
    """POST /v1/subscriptions: one metered monthly price, anchored on a day of the month."""
    work, params = call.work, call.params
    refuse_unsupported(set(params) - _KNOWN)
    customer = work.get("customer", params.get("customer", ""), "customer")
    price = _price(work, params)
    anchor = params.get("billing_cycle_anchor_config")
    if anchor is None:
        raise ApiError(
            "The Stripe stand-in carries subscriptions with billing_cycle_anchor_config only.",
            param="billing_cycle_anchor_config",
        )
    bills = params.get("collection_method", "charge_automatically") == "send_invoice"
    if bills != ("days_until_due" in params):
        raise ApiError(
            "days_until_due goes with collection_method=send_invoice, and only with it.",
            param="days_until_due",
        )
    taxed = params.get("automatic_tax", {}).get("enabled", False)
    if taxed:
        invoicing.require_location(customer)
    start = params.get("backdate_start_date", work.now())
    if start > work.now():
        raise ApiError("backdate_start_date must be in the past.", param="backdate_start_date")
    end = next_anchor(work.now(), anchor)
    subscription = work.make(
        "subscription",
        "sub",
        automatic_tax={"disabled_reason": None, "enabled": taxed, "liability": None},
        billing_cycle_anchor=end,
        billing_cycle_anchor_config={
            "day_of_month": anchor["day_of_month"],
            "hour": anchor.get("hour"),
            "minute": anchor.get("minute"),
            "month": anchor.get("month"),
            "second": anchor.get("second"),
        },
        billing_mode={"flexible": None, "type": "classic"},
        billing_schedules=[],
        cancel_at_period_end=False,
        collection_method=params.get("collection_method", "charge_automatically"),
        currency=price["currency"],
        customer=customer["id"],
        days_until_due=params.get("days_until_due"),
        default_payment_method=params.get("default_payment_method"),
        description=params.get("description"),
        discounts=[],
        invoice_settings={"account_tax_ids": None, "issuer": {"type": "self"}},
        metadata=merge_metadata({}, params),
        start_date=start,
        status="active",
    )
    subscription["items"] = _items(work, subscription["id"], price, start, end)
    work.put(subscription)
    work.emit("customer.subscription.created", subscription)
    _first_invoice(work, subscription)
    return subscription


def _price(work: Work, params: Body) -> Body:
    items = params.get("items", [])
    if len(items) != 1 or set(items[0]) - {"price", "metadata"}:
        raise ApiError(
            "The Stripe stand-in carries subscriptions with one item, a price.", param="items"
        )
    price = work.get("price", items[0].get("price", ""), "items[0][price]")
    recurring = price["recurring"] or {}
    if recurring.get("usage_type") != "metered" or recurring["interval"] != "month":
        raise ApiError(
            "The Stripe stand-in carries subscriptions to monthly metered prices only.",
            param="items[0][price]",
        )
    return price


def _items(work: Work, subscription_id: str, price: Body, start: int, end: int) -> Body:
    item = work.make(
        "subscription_item",
        "si",
        current_period_start=start,
        current_period_end=end,
        discounts=[],
        metadata={},
        price=price,
        subscription=subscription_id,
        tax_rates=[],
    )
    del item["livemode"]
    url = f"/v1/subscription_items?subscription={subscription_id}"
    return {"object": "list", "data": [item], "has_more": False, "total_count": 1, "url": url}


def _first_invoice(work: Work, subscription: Body) -> None:
    """Draw up the empty invoice with which Stripe begins a subscription: paid, of 0 cents."""
    now = work.now()
    invoice = invoicing.draft(
        work, subscription, (now, now), reason="subscription_create", finalize_at=None
    )
    invoicing.finalize(work, invoice, collect=True)
    subscription["latest_invoice"] = invoice["id"]
    work.put(subscription)


def roll(work: Work, subscription: Body) -> None:
    """End the running period at `work.now()`: a draft of its usage, and the next period."""
    item = subscription["items"]["data"][0]
    start, end = item["current_period_start"], item["current_period_end"]
    invoice = invoicing.draft(
        work,
        subscription,
        (start, end),
        reason="subscription_cycle",
        finalize_at=end + invoicing.DRAFT_S,
    )
    item["current_period_start"] = end
    item["current_period_end"] = next_anchor(end, subscription["billing_cycle_anchor_config"])
    subscription["latest_invoice"] = invoice["id"]
    work.put(subscription)
    work.emit("customer.subscription.updated", subscription, latest_invoice=None)


def next_anchor(after: int, anchor: dict[str, Any]) -> int:
    """Return the first moment after `after` (epoch seconds) that a monthly anchor names, UTC."""
    at = datetime.fromtimestamp(after, UTC)
    year, month = at.year, at.month
    while True:
        day = min(anchor["day_of_month"], calendar.monthrange(year, month)[1])
        found = datetime(
            year, month, day, anchor.get("hour") or 0, anchor.get("minute") or 0,
            anchor.get("second") or 0, tzinfo=UTC,
        )  # fmt: skip
        if found > at:
            return int(found.timestamp())
        year, month = (year, month + 1) if month < 12 else (year + 1, 1)


def retrieve(call: Call) -> Body:
    """GET /v1/subscriptions/{subscription_exposed_id}."""
    return get_object(call, "subscription", "subscription_exposed_id")


def list_(call: Call) -> Body:
    """GET /v1/subscriptions, by `customer`, `price`, `status`; canceled ones only if asked for."""
    params = call.params
    refuse_unsupported(
        set(params)
        - {"customer", "price", "status", "created", "limit", "starting_after", "ending_before"}
        - {"expand"}
    )
    wanted, price = params.get("status"), params.get("price")

    def fits(row: Body) -> bool:
        if price is not None and row["items"]["data"][0]["price"]["id"] != price:
            return False
        return bool(wanted == "all" or row["status"] == wanted) or (
            wanted is None and row["status"] != "canceled"
        )

    return list_objects(call, "subscription", "subscription", equal=("customer",), extra=fits)


def cancel(call: Call) -> Body:
    """DELETE /v1/subscriptions/{subscription_exposed_id}: its usage so far is not invoiced."""
    work = call.work
    subscription = work.get("subscription", call.path_params["subscription_exposed_id"])
    if subscription["status"] == "canceled":
        raise ApiError("The subscription is already canceled.", stored=True)
    now = work.now()
    subscription |= {"status": "canceled", "canceled_at": now, "ended_at": now}
    work.put(subscription)
    work.emit("customer.subscription.deleted", subscription)
    return subscription
