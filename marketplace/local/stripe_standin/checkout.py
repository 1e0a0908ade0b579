"""Checkout sessions: a page on which a customer pays a top-up or saves a card."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal

from marketplace.local.stripe_standin import cards, charging, invoicing, payments
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

LASTS_S = 24 * 3600
_KNOWN = {
    "automatic_tax", "cancel_url", "client_reference_id", "currency", "customer",
    "customer_update", "expand", "line_items", "metadata", "mode", "payment_intent_data",
    "setup_intent_data", "success_url",
}  # fmt: skip


def create(call: Call) -> Body:
    """POST /v1/checkout/sessions: `payment` of one amount, or `setup`."""
    work, params = call.work, call.params
    refuse_unsupported(set(params) - _KNOWN)
    mode = params.get("mode")
    if mode not in ("payment", "setup"):
        raise ApiError("The Stripe stand-in carries the modes payment and setup.", param="mode")
    for name in ("customer", "success_url"):
        if name not in params:
            raise ApiError(f"The Stripe stand-in needs {name} here.", param=name)
    customer = work.get("customer", params["customer"], "customer")
    taxed = params.get("automatic_tax", {}).get("enabled", False)
    if taxed and "customer_update" not in params:
        invoicing.require_location(customer)
    subtotal, currency = _amount(params) if mode == "payment" else (None, params.get("currency"))
    percent = work.setting("tax_percent", 0) if taxed else 0
    tax = int((Decimal(subtotal or 0) * percent / 100).quantize(Decimal(1), ROUND_HALF_UP))
    now = work.now()
    session = work.make(
        "checkout.session",
        "cs_test",
        amount_subtotal=subtotal,
        amount_total=None if subtotal is None else subtotal + tax,
        automatic_tax={
            "enabled": taxed,
            "liability": {"type": "self"} if taxed else None,
            "provider": None,
            "status": "complete" if taxed else None,
        },
        cancel_url=params.get("cancel_url"),
        client_reference_id=params.get("client_reference_id"),
        currency=currency,
        custom_fields=[],
        custom_text=dict.fromkeys(
            ("after_submit", "shipping_address", "submit", "terms_of_service_acceptance")
        ),
        customer=customer["id"],
        expires_at=now + LASTS_S,
        metadata=merge_metadata({}, params),
        mode=mode,
        payment_method_types=["card"],
        payment_status="unpaid" if mode == "payment" else "no_payment_required",
        shipping_options=[],
        status="open",
        success_url=params["success_url"],
        ui_mode="hosted_page",
    )
    if subtotal is not None:
        session["total_details"] = {
            "amount_discount": 0, "amount_shipping": 0, "amount_tax": tax
        }  # fmt: skip
    session["url"] = f"{work.base}/_standin/checkout/{session['id']}"
    later = params.get("payment_intent_data") or params.get("setup_intent_data") or {}
    if unknown := set(later) - {"description", "metadata", "setup_future_usage"}:
        refuse_unsupported(unknown)
    work.put({"object": "_checkout", "id": session["id"], "later": later})
    return work.put(session)


def _amount(params: Body) -> tuple[int, str]:
    total, currency = 0, ""
    for item in params.get("line_items", []):
        if set(item) - {"price_data", "quantity"} or "unit_amount" not in item["price_data"]:
            raise ApiError(
                "The Stripe stand-in carries line items with price_data[unit_amount] only.",
                param="line_items",
            )
        total += item["price_data"]["unit_amount"] * item.get("quantity", 1)
        currency = item["price_data"]["currency"].lower()
    if not currency:
        raise ApiError("`line_items` is required in payment mode.", param="line_items")
    payments.check_amount(total, "line_items")
    return total, currency


def retrieve(call: Call) -> Body:
    """GET /v1/checkout/sessions/{session}."""
    return get_object(call, "checkout.session", "session")


def list_(call: Call) -> Body:
    """GET /v1/checkout/sessions, by `customer`, `payment_intent`, `status`, `created`."""
    refuse_unsupported(
        set(call.params) & {"customer_account", "customer_details", "payment_link", "subscription"}
    )
    equal = ("customer", "payment_intent", "status")
    return list_objects(call, "checkout.session", "checkout.session", equal=equal)


def expire_now(call: Call) -> Body:
    """POST /v1/checkout/sessions/{session}/expire."""
    session = call.work.get("checkout.session", call.path_params["session"])
    _require_open(session)
    return expire(call.work, session)


def expire(work: Work, session: Body) -> Body:
    """Close an open session that was not used."""
    session |= {"status": "expired", "url": None}
    work.put(session)
    work.emit("checkout.session.expired", session)
    return session


def complete(work: Work, session_id: str, method_id: str) -> Body:
    """Let the customer pay, or save, a card on the page. Raises ApiError 402 for a decline."""
    session = work.get("checkout.session", session_id)
    _require_open(session)
    private = work.find("_checkout", session_id)
    later: Body = private["later"] if private else {}
    metadata = dict(later.get("metadata") or {})
    if session["mode"] == "setup":
        intent = payments.setup_intent(work, session["customer"], metadata)
        payments.setup_complete(work, intent, method_id)
        session["setup_intent"] = intent["id"]
    else:
        method = cards.payment_method(work, method_id, "card")
        intent, declined = charging.charge(
            work,
            amount=session["amount_total"],
            currency=session["currency"],
            customer=session["customer"],
            method=method,
            description=later.get("description"),
            metadata=metadata,
            setup_future_usage=later.get("setup_future_usage"),
        )
        if declined and declined.code != "authentication_required":
            raise declined.as_error(intent)
        if declined:
            raise ApiError("Choose another card: this one is for payments off session.")
        if later.get("setup_future_usage"):
            cards.attach(work, method, session["customer"])
        came_in = intent["status"] == "succeeded"
        session |= {
            "payment_intent": intent["id"],
            "payment_status": "paid" if came_in else "unpaid",
        }
    customer = work.get("customer", session["customer"])
    session |= {
        "customer_details": {
            "address": customer["address"],
            "business_name": None,
            "email": customer["email"],
            "individual_name": None,
            "name": customer["name"],
            "phone": None,
            "tax_exempt": customer["tax_exempt"],
            "tax_ids": [],
        },
        "status": "complete",
        "url": None,
    }
    work.put(session)
    work.emit("checkout.session.completed", session)
    return session


def _require_open(session: Body) -> None:
    if session["status"] != "open":
        raise ApiError(
            "Only Checkout Sessions with a status of `open` can be used; this one is "
            f"{session['status']}.",
            stored=True,
        )
