"""Input schemas: what a version accepts, checked with JSON Schema 2020-12."""

import json
import re
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, ValidationError

from marketplace.core.errors import InvalidInput

_MAX_SCHEMA_DEPTH = 12
_MAX_SCHEMA_BYTES = 64 * 1024
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
FORBIDDEN = {"$ref", "$dynamicRef", "pattern", "patternProperties"}


def _walk(node: Any, depth: int = 0) -> None:
    if depth > _MAX_SCHEMA_DEPTH:
        raise InvalidInput("The schema is nested too deeply.", fields={"input_schema": ["Depth."]})
    if isinstance(node, dict):
        if bad := FORBIDDEN & node.keys():
            raise InvalidInput(
                f"The schema uses {sorted(bad)[0]}, which is not supported.",
                fields={"input_schema": [f"{sorted(bad)[0]} is not supported."]},
            )
        for value in node.values():
            _walk(value, depth + 1)
    elif isinstance(node, list):
        for value in node:
            _walk(value, depth + 1)


def _refuse(message: str) -> InvalidInput:
    return InvalidInput(f"input_schema: {message}", fields={"input_schema": [message]})


def _check_properties(properties: dict[str, Any]) -> None:
    for name, node in properties.items():
        if not _NAME.fullmatch(name):
            raise _refuse(
                f"The name {name[:80]!r} must be of letters, digits and _, at most 64, "
                "and not begin with a digit."
            )
        if not isinstance(node, dict):
            raise _refuse(f"The property {name} must be an object.")
        _walk(node, 1)


def check_schema(schema: Any) -> None:
    """Raise InvalidInput unless `schema` is an acceptable JSON Schema of an object.

    References and regular expressions are refused: both could make validation slow. Names are
    plain, because code samples and forms are made from them.
    """
    if not isinstance(schema, dict) or schema.get("type") != "object":
        raise InvalidInput(
            "The input schema must describe an object.",
            fields={"input_schema": ['It must have "type": "object".']},
        )
    if not isinstance(schema.get("properties"), dict) or len(schema["properties"]) > 100:
        raise InvalidInput(
            "The input schema needs properties, at most 100.",
            fields={"input_schema": ["It must have properties, at most 100."]},
        )
    _walk({k: v for k, v in schema.items() if k != "properties"})
    _check_properties(schema["properties"])
    if len(json.dumps(schema).encode()) > _MAX_SCHEMA_BYTES:
        raise _refuse(f"At most {_MAX_SCHEMA_BYTES} bytes of JSON.")
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        raise InvalidInput(
            "The input schema is not valid JSON Schema.",
            fields={"input_schema": [error.message[:300]]},
        ) from error
    for name, node in schema["properties"].items():
        if "default" in node and not Draft202012Validator(node).is_valid(node["default"]):
            raise _refuse(f"The default of {name} does not fit the property itself.")


def with_order(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema with `x-order` on each property: PostgreSQL does not keep their order."""
    ordered = {
        name: {**node, "x-order": position} if isinstance(node, dict) else node
        for position, (name, node) in enumerate(schema["properties"].items())
    }
    return {**schema, "properties": ordered}


def plain(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema as its vendor wrote it: in order, without `x-order`."""
    properties = {
        name: {key: value for key, value in node.items() if key != "x-order"}
        for name, node in in_order(schema)
    }
    return {**schema, "properties": properties}


def in_order(schema: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Return the properties as their vendor ordered them."""
    found = [
        (n, node if isinstance(node, dict) else {}) for n, node in schema["properties"].items()
    ]
    return sorted(found, key=lambda item: item[1].get("x-order", len(found)))


def _names(error: ValidationError) -> list[str]:
    """Return the fields that an error is about, each as a dotted path; "" is the input whole."""
    instance: Any = error.instance
    schema: Any = error.schema
    names = [""]
    if error.validator == "required":
        names = [name for name in schema["required"] if name not in instance]
    elif error.validator == "additionalProperties":
        names = sorted(set(instance) - set(schema.get("properties", {})))
    return [".".join([*map(str, error.absolute_path), *filter(None, [name])]) for name in names]


def _message(error: ValidationError) -> str:
    if error.validator == "required":
        return "This field is required."
    if error.validator == "additionalProperties":
        return "This model has no such field."
    return error.message[:300]


def validate_input(schema: dict[str, Any], given: Any) -> dict[str, Any]:
    """Return `given` with the schema's defaults filled in. Raises InvalidInput naming fields.

    An unknown field is an error, so that a typo does not silently change the picture.
    """
    if not isinstance(given, dict):
        raise InvalidInput("The input must be an object.", fields={"input": ["Not an object."]})
    closed = {"additionalProperties": False, **schema}
    defaults = {
        name: node["default"]
        for name, node in schema["properties"].items()
        if isinstance(node, dict) and "default" in node
    }
    full = {**defaults, **given}
    for name, node in schema["properties"].items():
        value = full.get(name)
        # JSON knows one kind of number: 4.0 is the integer 4, for the schema and for engines.
        if isinstance(value, float) and value.is_integer() and node.get("type") == "integer":
            full[name] = int(value)
    fields: dict[str, list[str]] = {}
    for error in Draft202012Validator(closed).iter_errors(full):
        for name in _names(error)[:20]:
            said = fields.setdefault(f"input.{name}" if name else "input", [])
            # The checker reports "required" once for each missing field.
            if (text := _message(error)) not in said:
                said.append(text)
        if len(fields) >= 20:
            break
    if fields:
        first = next(iter(fields))
        raise InvalidInput(f"{first}: {fields[first][0]}", fields=fields)
    return full
