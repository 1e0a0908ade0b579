"""Checks a decoded form against a schema of Stripe's description and gives it its types.

Form values arrive as strings; the schema says which are integers, booleans or numbers. The
refusals follow Stripe's wording, and name the parameter as Stripe does: `payload[value]`.
An object that lists its properties is closed, also where the description leaves that open:
Stripe refuses an unknown parameter at any depth.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from marketplace.local.stripe_standin.errors import ApiError
from marketplace.local.stripe_standin.forms import Form

_INTEGER = re.compile(r"\A-?\d{1,18}\Z", re.ASCII)
_DECIMAL = re.compile(r"\A-?\d{1,18}(?:\.\d{1,12})?\Z", re.ASCII)
_CURRENCY = re.compile(r"\A[a-zA-Z]{3}\Z")


def coerce_object(schema: Mapping[str, Any], value: Mapping[str, Form]) -> dict[str, Any]:
    """Return `value` with the types of `schema`. Raises ApiError (400) naming the parameter."""
    typed: dict[str, Any] = _object(schema, dict(value), "")
    return typed


def _coerce(schema: Mapping[str, Any], value: Form, name: str) -> Any:
    if "anyOf" in schema:
        return _any_of(schema["anyOf"], value, name)
    kind = schema.get("type", "object" if "properties" in schema else "string")
    if kind == "object":
        if not isinstance(value, dict):
            raise ApiError("Invalid object", param=name)
        return _object(schema, value, name)
    if kind == "array":
        if value == "":
            return []
        if not isinstance(value, list):
            raise ApiError("Invalid array", param=name)
        return [_coerce(schema["items"], v, f"{name}[{i}]") for i, v in enumerate(value)]
    if not isinstance(value, str):
        raise ApiError(f"Invalid {'string' if kind == 'string' else kind}: {value}", param=name)
    return _scalar(schema, kind, value, name)


def _scalar(schema: Mapping[str, Any], kind: str, value: str, name: str) -> Any:
    if kind == "integer":
        if not _INTEGER.match(value):
            raise ApiError(
                f"Invalid integer: {value}", code="parameter_invalid_integer", param=name
            )
        return int(value)
    if kind == "boolean":
        if value not in ("true", "false"):
            raise ApiError(f"Invalid boolean: {value}", param=name)
        return value == "true"
    if kind == "number":
        if not _DECIMAL.match(value):
            raise ApiError(f"Invalid number: {value}", param=name)
        return float(value)
    if schema.get("format") == "decimal" and not _DECIMAL.match(value):
        raise ApiError(f"Invalid decimal: {value}", param=name)
    if schema.get("format") == "currency" and not _CURRENCY.match(value):
        raise ApiError(f"Invalid currency: {value}", param=name)
    limit = schema.get("maxLength")
    if limit is not None and len(value) > limit:
        raise ApiError(
            f"Invalid string: {value[:32]}…; must be at most {limit} characters", param=name
        )
    options = schema.get("enum")
    if options and value not in options:
        raise ApiError(f"Invalid {name}: must be one of {', '.join(map(str, options))}", param=name)
    return value


def _object(schema: Mapping[str, Any], value: dict[str, Form], name: str) -> dict[str, Any]:
    properties: Mapping[str, Any] = schema.get("properties", {})
    extra = schema.get("additionalProperties")
    typed: dict[str, Any] = {}
    for key, item in value.items():
        param = f"{name}[{key}]" if name else key
        if key in properties:
            typed[key] = _coerce(properties[key], item, param)
        elif isinstance(extra, Mapping):
            typed[key] = _coerce(extra, item, param)
        else:
            raise ApiError(
                f"Received unknown parameter: {param}", code="parameter_unknown", param=param
            )
    for key in schema.get("required", ()):
        if key not in value:
            param = f"{name}[{key}]" if name else key
            raise ApiError(
                f"Missing required param: {param}.", code="parameter_missing", param=param
            )
    return typed


def _any_of(choices: list[Mapping[str, Any]], value: Form, name: str) -> Any:
    """Take the first choice that fits; the last refusal stands when none does."""
    refusal: ApiError | None = None
    for choice in choices:
        try:
            return _coerce(choice, value, name)
        except ApiError as error:
            if refusal is None or len(error.param or "") > len(refusal.param or ""):
                refusal = error
    assert refusal is not None
    raise refusal


def check_json(schema: Mapping[str, Any], value: Any, name: str = "") -> None:
    """Check a JSON body of the v2 API against a schema. Raises ApiError naming the field.

    JSON has types of its own, so nothing is coerced: `"value": 1` where a string is due is
    refused, as Stripe does.
    """
    if "anyOf" in schema:
        _check_any(schema["anyOf"], value, name)
        return
    kind = schema.get("type", "object" if "properties" in schema else None)
    types: dict[str, type | tuple[type, ...]] = {
        "object": dict, "array": list, "string": str, "boolean": bool, "integer": int,
        "number": (int, float),
    }  # fmt: skip
    wrong_bool = isinstance(value, bool) and kind in ("integer", "number")
    if kind and (wrong_bool or not isinstance(value, types[kind])):
        raise ApiError(f"Invalid {kind}: {str(value)[:40]}", param=name or None)
    if isinstance(value, list):
        for index, item in enumerate(value):
            check_json(schema.get("items", {}), item, f"{name}[{index}]")
    elif isinstance(value, dict):
        _check_object(schema, value, name)
    elif "enum" in schema and value not in schema["enum"]:
        known = ", ".join(map(str, schema["enum"]))
        raise ApiError(f"Invalid {name}: must be one of {known}", param=name)


def _check_object(schema: Mapping[str, Any], value: dict[str, Any], name: str) -> None:
    properties: Mapping[str, Any] = schema.get("properties", {})
    extra = schema.get("additionalProperties")
    for key, item in value.items():
        param = f"{name}[{key}]" if name else key
        if key in properties:
            check_json(properties[key], item, param)
        elif isinstance(extra, Mapping):
            check_json(extra, item, param)
        elif properties or extra is not True:
            raise ApiError(
                f"Received unknown parameter: {param}", code="parameter_unknown", param=param
            )
    for key in schema.get("required", ()):
        if key not in value:
            param = f"{name}[{key}]" if name else key
            raise ApiError(
                f"Missing required param: {param}.", code="parameter_missing", param=param
            )


def _check_any(choices: list[Mapping[str, Any]], value: Any, name: str) -> None:
    refusal: ApiError | None = None
    for choice in choices:
        try:
            check_json(choice, value, name)
            return
        except ApiError as error:
            refusal = error
    assert refusal is not None
    raise refusal
