"""Products and prices: as much as a metered price needs. Handlers as in `resources`."""

from __future__ import annotations

from decimal import Decimal

from marketplace.local.stripe_standin.calls import (
    Body,
    Call,
    Params,
    get_object,
    list_objects,
    merge_metadata,
    refuse_unsupported,
)
from marketplace.local.stripe_standin.errors import ApiError, resource_missing


def product_create(call: Call) -> Body:
    """POST /v1/products."""
    params = call.params
    refuse_unsupported(
        set(params) - {"active", "description", "expand", "id", "metadata", "name", "unit_label"}
    )
    if params.get("id") in call.store.kind("product"):
        raise ApiError(
            "Product already exists.", code="resource_already_exists", param="id", stored=True
        )
    product = _product(call, params.get("id") or call.store.new_id("prod"), params)
    call.change.objects.append(product)
    return product


def _product(call: Call, id_: str, params: Params) -> Body:
    now = call.store.now()
    return {
        "id": id_,
        "object": "product",
        "active": params.get("active", True),
        "created": now,
        "default_price": None,
        "description": params.get("description"),
        "images": [],
        "livemode": False,
        "marketing_features": [],
        "metadata": merge_metadata({}, params),
        "name": params["name"],
        "package_dimensions": None,
        "shippable": None,
        "statement_descriptor": None,
        "tax_code": None,
        "unit_label": params.get("unit_label"),
        "updated": now,
        "url": None,
    }


def product_retrieve(call: Call) -> Body:
    """GET /v1/products/{id}."""
    return get_object(call, "product", "id")


def product_list(call: Call) -> Body:
    """GET /v1/products, by `active` and `created`."""
    refuse_unsupported(set(call.params) & {"ids", "shippable", "url"})
    return list_objects(call, "product", "product", equal=("active",))


def price_create(call: Call) -> Body:
    """POST /v1/prices: one-off, recurring, or metered on one of our meters; per unit only."""
    params = call.params
    refuse_unsupported(
        set(params)
        - {
            "active", "billing_scheme", "currency", "expand", "lookup_key", "metadata", "nickname",
            "product", "product_data", "recurring", "tax_behavior", "unit_amount",
            "unit_amount_decimal",
        }
    )  # fmt: skip
    if params.get("billing_scheme", "per_unit") != "per_unit":
        refuse_unsupported({"billing_scheme"})
    amount = _unit_amount(params)
    price: Body = {
        "id": call.store.new_id("price"),
        "object": "price",
        "active": params.get("active", True),
        "billing_scheme": "per_unit",
        "created": call.store.now(),
        "currency": params["currency"].lower(),
        "custom_unit_amount": None,
        "livemode": False,
        "lookup_key": params.get("lookup_key"),
        "metadata": merge_metadata({}, params),
        "nickname": params.get("nickname"),
        "product": _price_product(call),
        "recurring": _recurring(call),
        "tax_behavior": params.get("tax_behavior", "unspecified"),
        "tiers_mode": None,
        "transform_quantity": None,
        "type": "recurring" if "recurring" in params else "one_time",
        "unit_amount": int(amount) if amount == amount.to_integral_value() else None,
        "unit_amount_decimal": f"{amount.normalize():f}",
    }
    call.change.objects.append(price)
    return price


def _unit_amount(params: Params) -> Decimal:
    given = [name for name in ("unit_amount", "unit_amount_decimal") if name in params]
    if len(given) != 1:
        raise ApiError(
            "You must pass exactly one of `unit_amount` and `unit_amount_decimal`.",
            code="parameter_missing" if not given else None,
            param="unit_amount",
        )
    amount = Decimal(params[given[0]])
    if amount < 0:
        raise ApiError("Invalid non-negative amount", param=given[0])
    return amount


def _price_product(call: Call) -> str:
    params = call.params
    if ("product" in params) == ("product_data" in params):
        raise ApiError(
            "You must pass exactly one of `product` and `product_data`.", param="product"
        )
    if "product" in params:
        if params["product"] not in call.store.kind("product"):
            raise resource_missing("product", params["product"], param="product", status=400)
        return str(params["product"])
    data = params["product_data"]
    product = _product(call, data.get("id") or call.store.new_id("prod"), data)
    call.change.objects.append(product)
    return str(product["id"])


def _recurring(call: Call) -> Body | None:
    recurring = call.params.get("recurring")
    if recurring is None:
        return None
    usage_type = recurring.get("usage_type", "licensed")
    meter = recurring.get("meter")
    if (usage_type == "metered") != (meter is not None):
        raise ApiError(
            "Metered prices must be backed by a meter, and only they can be.",
            param="recurring[meter]",
        )
    if meter is not None and meter not in call.store.kind("billing.meter"):
        raise resource_missing("meter", meter, param="recurring[meter]", status=400)
    return {
        "interval": recurring["interval"],
        "interval_count": recurring.get("interval_count", 1),
        "meter": meter,
        "trial_period_days": None,
        "usage_type": usage_type,
    }


def price_retrieve(call: Call) -> Body:
    """GET /v1/prices/{price}."""
    return get_object(call, "price", "price")


def price_list(call: Call) -> Body:
    """GET /v1/prices, by `active`, `currency`, `product`, `type`, `lookup_keys`, `created`."""
    refuse_unsupported(set(call.params) & {"recurring"})
    keys = call.params.get("lookup_keys")
    extra = (lambda price: price["lookup_key"] in keys) if keys else None
    equal = ("active", "currency", "product", "type")
    return list_objects(call, "price", "price", equal=equal, extra=extra)
