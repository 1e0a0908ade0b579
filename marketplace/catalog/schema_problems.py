"""Names every problem of an input schema by its path, for whoever is writing it."""

import json
from dataclasses import dataclass
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from marketplace.catalog import schemas
from marketplace.core.errors import InvalidInput

_MOST = 12
_META = Draft202012Validator(Draft202012Validator.META_SCHEMA)


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong, and where: `properties.width.default`, or the line of a text that is no JSON.

    `path` is empty for the schema as a whole.
    """

    path: str
    message: str


def _place(error: ValidationError) -> list[str]:
    return [str(part) for part in error.absolute_path]


def parse(text: str) -> tuple[dict[str, Any] | None, list[Problem]]:
    """Return the schema that `text` is, or None, and what is wrong with it, at most a dozen."""
    try:
        schema = json.loads(text)
    except (ValueError, RecursionError) as error:
        where = (
            f"line {error.lineno}, column {error.colno}"
            if isinstance(error, json.JSONDecodeError)
            else ""
        )
        said = error.msg if isinstance(error, json.JSONDecodeError) else "It is nested too deeply"
        return None, [Problem(where, f"This is not JSON: {said}.")]
    found = problems(schema)
    return (None if found else schema), found


def problems(schema: Any) -> list[Problem]:
    """Return what is wrong with a schema; nothing for one that a version may have."""
    if not isinstance(schema, dict):
        return [Problem("", "The schema must be an object.")]
    found = [
        Problem(".".join(map(str, error.absolute_path)), error.message[:300])
        for error in sorted(
            _META.iter_errors(schema), key=lambda e: list(map(str, e.absolute_path))
        )
    ]
    found += _property_problems(schema.get("properties"))
    found += _required_problems(schema)
    if not found:
        try:
            schemas.check_schema(schema)
        except InvalidInput as error:
            said = error.fields.get("input_schema", [error.message])
            found = [Problem("", text) for text in said]
    # The vocabularies of the meta-schema each say the same of one fault.
    return list(dict.fromkeys(found))[:_MOST]


def _property_problems(properties: Any) -> list[Problem]:
    """Return what is wrong with single inputs: keywords that are refused, defaults that misfit."""
    found: list[Problem] = []
    for name, node in properties.items() if isinstance(properties, dict) else ():
        where = f"properties.{name}"
        if not isinstance(node, dict):
            found.append(Problem(where, "It must be an object."))
            continue
        found += [
            Problem(f"{where}.{keyword}", f"{keyword} is not supported.")
            for keyword in sorted(schemas.FORBIDDEN & node.keys())
        ]
        if "default" in node and _META.is_valid(node):
            fits = Draft202012Validator({k: v for k, v in node.items() if k != "default"})
            found += [
                Problem(f"{where}.default", error.message[:300])
                for error in fits.iter_errors(node["default"])
            ]
    return found


def _required_problems(schema: dict[str, Any]) -> list[Problem]:
    required, known = schema.get("required"), schema.get("properties")
    if not isinstance(required, list) or not isinstance(known, dict):
        return []
    return [
        Problem("required", f"{name} is required, but is none of the properties.")
        for name in required
        if isinstance(name, str) and name not in known
    ]
