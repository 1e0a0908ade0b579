"""Input schemas: what a version accepts, checked with JSON Schema 2020-12."""

from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, ValidationError

from marketplace.core.errors import InvalidInput

_MAX_SCHEMA_DEPTH = 12
_FORBIDDEN = {"$ref", "$dynamicRef", "pattern", "patternProperties"}


def _walk(node: Any, depth: int = 0) -> None:
    if depth > _MAX_SCHEMA_DEPTH:
        raise InvalidInput("The schema is nested too deeply.", fields={"input_schema": ["Depth."]})
    if isinstance(node, dict):
        if bad := _FORBIDDEN & node.keys():
            raise InvalidInput(
                f"The schema uses {sorted(bad)[0]}, which is not supported.",
                fields={"input_schema": [f"{sorted(bad)[0]} is not supported."]},
            )
        for value in node.values():
            _walk(value, depth + 1)
    elif isinstance(node, list):
        for value in node:
            _walk(value, depth + 1)


def check_schema(schema: Any) -> None:
    """Raise InvalidInput unless `schema` is an acceptable JSON Schema of an object.

    References and regular expressions are refused: both could make validation slow.
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
    for node in schema["properties"].values():
        _walk(node, 1)
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        raise InvalidInput(
            "The input schema is not valid JSON Schema.",
            fields={"input_schema": [error.message[:300]]},
        ) from error


def with_order(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema with `x-order` on each property: PostgreSQL does not keep their order."""
    ordered = {
        name: {"x-order": position, **node} if isinstance(node, dict) else node
        for position, (name, node) in enumerate(schema["properties"].items())
    }
    return {**schema, "properties": ordered}


def in_order(schema: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Return the properties as their vendor ordered them."""
    found = [
        (n, node if isinstance(node, dict) else {}) for n, node in schema["properties"].items()
    ]
    return sorted(found, key=lambda item: item[1].get("x-order", len(found)))


def _field(error: ValidationError) -> str:
    instance: Any = error.instance
    if error.validator == "required":
        required: Any = error.validator_value
        missing = [name for name in required if name not in instance]
        return ".".join([*map(str, error.absolute_path), missing[0] if missing else ""])
    if error.validator == "additionalProperties":
        schema: Any = error.schema
        unknown = sorted(set(instance) - set(schema.get("properties", {})))
        return ".".join([*map(str, error.absolute_path), unknown[0] if unknown else ""])
    return ".".join(map(str, error.absolute_path))


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
        name = _field(error)
        fields.setdefault(f"input.{name}" if name else "input", []).append(_message(error))
        if len(fields) >= 20:
            break
    if fields:
        first = next(iter(fields))
        raise InvalidInput(f"{first}: {fields[first][0]}", fields=fields)
    return full
