"""Customers with their tax ids, and meters: create, retrieve, update and list, as Stripe answers.

Each handler takes a `Call` and returns the JSON body of a 200; what it changed it leaves in
`call.change`. Handlers refuse with ApiError.
"""

from __future__ import annotations

from marketplace.local.stripe_standin.calls import (
    Body,
    Call,
    get_object,
    list_objects,
    merge_metadata,
    paginate,
    refuse_unsupported,
)
from marketplace.local.stripe_standin.errors import ApiError, resource_missing


def customer_create(call: Call) -> Body:
    """POST /v1/customers."""
    id_ = call.store.new_id("cus")
    customer: Body = {
        "id": id_,
        "object": "customer",
        "address": None,
        "balance": 0,
        "created": call.store.now(),
        "currency": None,
        "default_source": None,
        "delinquent": False,
        "description": None,
        "discount": None,
        "email": None,
        "invoice_prefix": id_[-8:].upper(),
        "invoice_settings": {
            "custom_fields": None,
            "default_payment_method": None,
            "footer": None,
            "rendering_options": None,
        },
        "livemode": False,
        "metadata": {},
        "name": None,
        "next_invoice_sequence": 1,
        "phone": None,
        "preferred_locales": [],
        "shipping": None,
        "tax_exempt": "none",
        "test_clock": None,
    }
    return _customer_set(call, customer)


def customer_update(call: Call) -> Body:
    """POST /v1/customers/{customer}."""
    return _customer_set(call, dict(get_object(call, "customer", "customer")))


def _customer_set(call: Call, customer: Body) -> Body:
    unsupported = set(call.params) - {
        "address", "description", "email", "expand", "invoice_settings", "metadata", "name",
        "phone", "tax_exempt",
    }  # fmt: skip
    refuse_unsupported(unsupported)
    for name in ("address", "description", "email", "name", "phone", "tax_exempt"):
        if name in call.params:
            customer[name] = call.params[name] or None
    settings = call.params.get("invoice_settings", {})
    refuse_unsupported(set(settings) - {"default_payment_method"})
    if "default_payment_method" in settings:
        _default_method(call, customer, settings["default_payment_method"])
    customer["metadata"] = merge_metadata(customer["metadata"], call.params)
    call.change.objects.append(customer)
    return customer


def _default_method(call: Call, customer: Body, method_id: str) -> None:
    method = call.work.get("payment_method", method_id, "invoice_settings[default_payment_method]")
    if method["customer"] != customer["id"]:
        raise ApiError(
            "The customer does not have a payment method with the ID "
            f"{method_id}. The payment method must be attached to the customer.",
            param="invoice_settings[default_payment_method]",
            stored=True,
        )
    customer["invoice_settings"] = {
        **customer["invoice_settings"], "default_payment_method": method_id
    }  # fmt: skip


def customer_retrieve(call: Call) -> Body:
    """GET /v1/customers/{customer}."""
    return get_object(call, "customer", "customer")


def customer_list(call: Call) -> Body:
    """GET /v1/customers, by exact `email` and by `created`."""
    refuse_unsupported(set(call.params) & {"test_clock"})
    return list_objects(call, "customer", "customer", equal=("email",))


def tax_id_create(call: Call) -> Body:
    """POST /v1/customers/{customer}/tax_ids; the value `000000000` is found to be wrong later."""
    customer = get_object(call, "customer", "customer")
    value = call.params["value"]
    tax_id = call.work.make(
        "tax_id",
        "txi",
        country=call.params["type"][:2].upper() if call.params["type"][2:3] == "_" else None,
        customer=customer["id"],
        owner={"customer": customer["id"], "type": "customer"},
        type=call.params["type"],
        value=value,
        verification={
            "status": "unverified" if value == "000000000" else "verified",
            "verified_address": None,
            "verified_name": None,
        },
    )
    return call.work.put(tax_id)


def tax_id_list(call: Call) -> Body:
    """GET /v1/customers/{customer}/tax_ids."""
    customer = get_object(call, "customer", "customer")
    rows = call.work.where("tax_id", "customer", customer["id"])
    return paginate(rows[::-1], call.params, url=call.path, word="tax_id")


def tax_id_delete(call: Call) -> Body:
    """DELETE /v1/customers/{customer}/tax_ids/{id}."""
    tax_id = get_object(call, "tax_id", "id")
    if tax_id["customer"] != call.path_params["customer"]:
        raise resource_missing("tax_id", tax_id["id"], param="id")
    call.change.deleted.append(["tax_id", tax_id["id"]])
    return {"id": tax_id["id"], "object": "tax_id", "deleted": True}


def meter_create(call: Call) -> Body:
    """POST /v1/billing/meters. One active meter per `event_name`."""
    store, params = call.store, call.params
    existing = store.meter_by_event_name(params["event_name"])
    if existing is not None and existing["status"] == "active":
        raise ApiError(
            f"There is already an active meter with the event name {params['event_name']}.",
            param="event_name",
            stored=True,
        )
    now = store.now()
    meter: Body = {
        "id": store.new_id("mtr"),
        "object": "billing.meter",
        "created": now,
        "customer_mapping": params.get(
            "customer_mapping", {"event_payload_key": "stripe_customer_id", "type": "by_id"}
        ),
        "default_aggregation": {"formula": params["default_aggregation"]["formula"]},
        "display_name": params["display_name"],
        "event_name": params["event_name"],
        "event_time_window": params.get("event_time_window"),
        "livemode": False,
        "status": "active",
        "status_transitions": {"deactivated_at": None},
        "updated": now,
        "value_settings": params.get("value_settings", {"event_payload_key": "value"}),
    }
    call.change.objects.append(meter)
    return meter


def meter_retrieve(call: Call) -> Body:
    """GET /v1/billing/meters/{id}."""
    return get_object(call, "billing.meter", "id")


def meter_list(call: Call) -> Body:
    """GET /v1/billing/meters, by `status`."""
    return list_objects(call, "billing.meter", "meter", equal=("status",))


def meter_deactivate(call: Call) -> Body:
    """POST /v1/billing/meters/{id}/deactivate."""
    return _meter_status(call, "inactive", call.store.now())


def meter_reactivate(call: Call) -> Body:
    """POST /v1/billing/meters/{id}/reactivate."""
    return _meter_status(call, "active", None)


def _meter_status(call: Call, status: str, deactivated_at: int | None) -> Body:
    meter = dict(get_object(call, "billing.meter", "id"))
    if meter["status"] == status:
        raise ApiError(f"The meter is already {status}.", stored=True)
    other = call.store.meter_by_event_name(meter["event_name"])
    if status == "active" and other is not None and other["status"] == "active":
        raise ApiError(
            f"There is already an active meter with the event name {meter['event_name']}.",
            stored=True,
        )
    meter["status"] = status
    meter["status_transitions"] = {"deactivated_at": deactivated_at}
    meter["updated"] = call.store.now()
    call.change.objects.append(meter)
    return meter
