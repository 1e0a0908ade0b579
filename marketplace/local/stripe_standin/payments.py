"""Payments over the API: PaymentIntents, SetupIntents, payment methods, refunds, disputes."""

from __future__ import annotations

from marketplace.local.stripe_standin import cards, charging
from marketplace.local.stripe_standin.calls import (
    Body,
    Call,
    get_object,
    list_objects,
    merge_metadata,
    paginate,
    refuse_unsupported,
)
from marketplace.local.stripe_standin.errors import ApiError
from marketplace.local.stripe_standin.work import Work

MIN_USD_CENTS = 50


def payment_intent_create(call: Call) -> Body:
    """POST /v1/payment_intents: confirmed at once, with a saved or a test card."""
    work, params = call.work, call.params
    refuse_unsupported(
        set(params)
        - {
            "amount", "automatic_payment_methods", "confirm", "currency", "customer",
            "description", "expand", "metadata", "off_session", "payment_method",
            "setup_future_usage", "transfer_group",
        }
    )  # fmt: skip
    if not params.get("confirm") or "payment_method" not in params:
        raise ApiError(
            "The Stripe stand-in carries PaymentIntents with confirm=true and a payment_method.",
            param="confirm",
        )
    check_amount(params["amount"], "amount")
    customer = params.get("customer")
    if customer is not None:
        work.get("customer", customer, "customer")
    method = cards.payment_method(work, params["payment_method"], "payment_method")
    if method["customer"] is not None and method["customer"] != customer:
        raise ApiError(
            "The provided PaymentMethod was attached to another customer.",
            param="payment_method",
            stored=True,
        )
    intent, declined = charging.charge(
        work,
        amount=params["amount"],
        currency=params["currency"].lower(),
        customer=customer,
        method=method,
        description=params.get("description"),
        metadata=merge_metadata({}, params),
        setup_future_usage=params.get("setup_future_usage"),
        transfer_group=params.get("transfer_group"),
    )
    if declined:
        raise declined.as_error(intent)
    if params.get("setup_future_usage") and customer:
        cards.attach(work, method, customer)
    return intent


def check_amount(amount: int, param: str) -> None:
    """Raise ApiError for less than Stripe charges, 50 cents."""
    if amount < MIN_USD_CENTS:
        raise ApiError(
            "Amount must be at least $0.50 usd", code="amount_too_small", param=param, stored=True
        )


def payment_intent_retrieve(call: Call) -> Body:
    """GET /v1/payment_intents/{intent}."""
    return get_object(call, "payment_intent", "intent")


def payment_intent_list(call: Call) -> Body:
    """GET /v1/payment_intents, by `customer` and `created`."""
    return list_objects(call, "payment_intent", "payment_intent", equal=("customer",))


def setup_intent_create(call: Call) -> Body:
    """POST /v1/setup_intents."""
    params = call.params
    refuse_unsupported(
        set(params)
        - {
            "automatic_payment_methods", "confirm", "customer", "description", "expand",
            "metadata", "payment_method", "usage",
        }
    )  # fmt: skip
    if "customer" in params:
        call.work.get("customer", params["customer"], "customer")
    intent = setup_intent(call.work, params.get("customer"), merge_metadata({}, params))
    if params.get("confirm"):
        return setup_complete(call.work, intent, params.get("payment_method", ""))
    return call.work.put(intent)


def setup_intent(work: Work, customer: str | None, metadata: dict[str, str]) -> Body:
    """Return a SetupIntent that waits for a card, not put."""
    intent = work.make(
        "setup_intent",
        "seti",
        automatic_payment_methods={"allow_redirects": "never", "enabled": True},
        customer=customer,
        metadata=metadata,
        payment_method_types=["card"],
        status="requires_payment_method",
        usage="off_session",
    )
    intent["client_secret"] = f"{intent['id']}_secret_standin"
    return intent


def setup_complete(work: Work, intent: Body, method_id: str) -> Body:
    """Save the card of a SetupIntent with its customer; a card that only fails later is fine."""
    if intent["status"] == "succeeded":
        raise ApiError("This SetupIntent has already succeeded.", stored=True)
    method = _acceptable(cards.payment_method(work, method_id, "payment_method"))
    if intent["customer"]:
        cards.attach(work, method, intent["customer"])
    intent |= {"payment_method": method["id"], "status": "succeeded"}
    work.put(intent)
    work.emit("setup_intent.succeeded", intent)
    return intent


def setup_intent_retrieve(call: Call) -> Body:
    """GET /v1/setup_intents/{intent}."""
    return get_object(call, "setup_intent", "intent")


def setup_intent_confirm(call: Call) -> Body:
    """POST /v1/setup_intents/{intent}/confirm, with a saved or a test card."""
    refuse_unsupported(set(call.params) - {"payment_method", "expand"})
    intent = call.work.get("setup_intent", call.path_params["intent"])
    return setup_complete(call.work, intent, call.params.get("payment_method", ""))


def payment_method_attach(call: Call) -> Body:
    """POST /v1/payment_methods/{payment_method}/attach; Stripe's test names make a card."""
    work = call.work
    customer = work.get("customer", call.params.get("customer", ""), "customer")
    method = cards.payment_method(work, call.path_params["payment_method"], "payment_method")
    return cards.attach(work, _acceptable(method), customer["id"])


def payment_method_detach(call: Call) -> Body:
    """POST /v1/payment_methods/{payment_method}/detach."""
    refuse_unsupported(set(call.params) - {"expand"})
    return cards.detach(call.work, get_object(call, "payment_method", "payment_method"))


def _acceptable(method: Body) -> Body:
    """Refuse the card that cannot even be saved."""
    if method.get("card", {}).get("last4") == "0002":
        raise cards.Declined(
            "card_declined", "generic_decline", "Your card was declined."
        ).as_error(None)
    return method


def payment_method_list(call: Call) -> Body:
    """GET /v1/customers/{customer}/payment_methods, by `type`."""
    refuse_unsupported(set(call.params) & {"allow_redisplay"})
    customer = get_object(call, "customer", "customer")
    rows = call.work.where("payment_method", "customer", customer["id"])
    wanted = call.params.get("type")
    rows = [row for row in rows if wanted in (None, row["type"])]
    return paginate(rows[::-1], call.params, url=call.path, word="payment_method")


def refund_create(call: Call) -> Body:
    """POST /v1/refunds of a charge or a PaymentIntent."""
    work, params = call.work, call.params
    refuse_unsupported(
        set(params) - {"amount", "charge", "expand", "metadata", "payment_intent", "reason"}
    )
    if ("charge" in params) == ("payment_intent" in params):
        raise ApiError(
            "One of the following params should be provided: payment_intent or charge.",
            param="payment_intent",
        )
    charge = params.get("charge")
    if charge is None:
        intent = work.get("payment_intent", params["payment_intent"], "payment_intent")
        charge = intent["latest_charge"]
        if charge is None:
            raise ApiError(
                f"This PaymentIntent ({intent['id']}) does not have a successful charge to refund.",
                code="resource_missing",
                stored=True,
            )
    return charging.refund(
        work,
        charge,
        params.get("amount"),
        reason=params.get("reason"),
        metadata=merge_metadata({}, params),
    )


def refund_retrieve(call: Call) -> Body:
    """GET /v1/refunds/{refund}."""
    return get_object(call, "refund", "refund")


def refund_list(call: Call) -> Body:
    """GET /v1/refunds, by `charge`, `payment_intent`, `created`."""
    return list_objects(call, "refund", "refund", equal=("charge", "payment_intent"))


def charge_retrieve(call: Call) -> Body:
    """GET /v1/charges/{charge}."""
    return get_object(call, "charge", "charge")


def dispute_retrieve(call: Call) -> Body:
    """GET /v1/disputes/{dispute}."""
    return get_object(call, "dispute", "dispute")


def balance_transaction_retrieve(call: Call) -> Body:
    """GET /v1/balance_transactions/{id}."""
    return get_object(call, "balance_transaction", "id")


def balance_retrieve(call: Call) -> Body:
    """GET /v1/balance."""

    def amounts(cents: int) -> list[Body]:
        return [{"amount": cents, "currency": "usd", "source_types": {"card": cents}}]

    return {
        "object": "balance",
        "available": amounts(call.store.available()),
        "livemode": False,
        "pending": amounts(call.store.pending()),
    }
