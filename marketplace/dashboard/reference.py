"""The API's reference as the pages show it: read from the schema that the code generates."""

from dataclasses import dataclass
from functools import cache
from http import HTTPStatus
from typing import Any

from django.conf import settings
from drf_spectacular.generators import SchemaGenerator

METHODS = ("get", "post", "put", "patch", "delete")
GROUPS = {
    "jobs": "Jobs",
    "files": "Files",
    "models": "Models",
    "licences": "Licences",
    "keys": "Keys",
    "projects": "Projects and budgets",
    "balance": "Balance",
    "usage": "Usage",
    "billing": "Billing",
    "earnings": "Earnings",
    "vendor": "Statements and payouts",
}
_BINARY = "binary"


@dataclass(frozen=True, slots=True)
class Field:
    """A parameter or a property: `kind` in words, `refers` to an object of the reference."""

    name: str
    kind: str
    refers: str
    required: bool
    about: str
    place: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a status means and which object comes with it."""

    status: str
    meaning: str
    refers: str


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path."""

    name: str
    method: str
    path: str
    group: str
    about: str
    public: bool
    parameters: list[Field]
    body: list[Field]
    answers: list[Answer]
    sample: str


@dataclass(frozen=True, slots=True)
class Thing:
    """An object that operations take or answer."""

    name: str
    about: str
    fields: list[Field]


@dataclass(frozen=True, slots=True)
class Reference:
    """All operations by group, and all objects that answers have."""

    groups: list[tuple[str, str, list[Operation]]]
    things: list[Thing]


def _refers(node: dict[str, Any]) -> str:
    """Return the name of the object that a schema is or lists."""
    for part in (node, node.get("items") or {}, *node.get("allOf", ()), *node.get("oneOf", ())):
        if "$ref" in part:
            return str(part["$ref"]).rpartition("/")[2]
    return ""


def _kind(node: dict[str, Any], schemas: dict[str, Any]) -> tuple[str, str]:
    """Return the type of a schema in words, and the object that it refers to, if any."""
    name = _refers(node)
    target = schemas.get(name, {})
    if "enum" in target or "enum" in node:
        values = [value for value in target.get("enum", node.get("enum")) if value is not None]
        words, name = ", ".join(str(value) for value in values), ""
        return (f"list of {words}" if node.get("type") == "array" else words), name
    if node.get("type") == "array":
        inner = _kind(node.get("items", {}), schemas)[0]
        return f"list of {inner}", name
    if name:
        return name, name
    kinds = node.get("type", "any")
    kinds = [kinds] if isinstance(kinds, str) else [k for k in kinds if k != "null"]
    words = " or ".join(kinds)
    if node.get("format") and node["format"] != _BINARY:
        words += f" ({node['format']})"
    return words, ""


def _properties(schema: dict[str, Any], schemas: dict[str, Any]) -> list[Field]:
    required = set(schema.get("required", ()))
    rows = []
    for name, node in schema.get("properties", {}).items():
        kind, refers = _kind(node, schemas)
        rows.append(Field(name, kind, refers, name in required, str(node.get("description", ""))))
    return rows


def _parameters(operation: dict[str, Any], schemas: dict[str, Any]) -> list[Field]:
    rows = []
    for node in operation.get("parameters", ()):
        kind, _ = _kind(node.get("schema", {}), schemas)
        required = bool(node.get("required"))
        about = str(node.get("description", ""))
        rows.append(Field(node["name"], kind, "", required, about, node["in"]))
    return rows


def _content(part: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    for kind, content in part.get("content", {}).items():
        return kind, content.get("schema", {})
    return "", {}


def _answers(operation: dict[str, Any]) -> list[Answer]:
    found = []
    for status, part in sorted(operation.get("responses", {}).items()):
        kind, schema = _content(part)
        meaning = part.get("description") or (
            HTTPStatus(int(status)).phrase if status.isdecimal() else ""
        )
        name = _refers(schema)
        found.append(Answer(status, meaning if name or not kind else f"{meaning}: {kind}", name))
    return found


def _sample(method: str, path: str, *, public: bool, body: list[Field]) -> str:
    lines = [f"curl -s {settings.PUBLIC_URL}{path}".replace("{", "").replace("}", "")]
    if method != "get" and not (method == "post" and body):
        lines[0] += f" -X {method.upper()}"
    if not public:
        lines.append('-H "Authorization: Bearer $MERCATO_KEY"')
    if body:
        needed = [field.name for field in body if field.required] or [body[0].name]
        lines.append('-H "Content-Type: application/json"')
        lines.append("-d '{" + ", ".join(f'"{name}": …' for name in needed) + "}'")
    return " \\\n  ".join(lines)


def _operation(method: str, path: str, node: dict[str, Any], schemas: dict[str, Any]) -> Operation:
    _, schema = _content(node.get("requestBody", {}))
    body = _properties(schemas.get(_refers(schema), schema), schemas)
    public = any(not way for way in node.get("security", ())) or not node.get("security")
    return Operation(
        name=node["operationId"],
        method=method.upper(),
        path=path,
        group=(node.get("tags") or ["other"])[0],
        about=str(node.get("description", node.get("summary", ""))),
        public=public,
        parameters=_parameters(node, schemas),
        body=body,
        answers=_answers(node),
        sample=_sample(method, path, public=public, body=body),
    )


@cache
def reference() -> Reference:
    """Return the reference, read once per process: the schema changes with the code only."""
    whole = SchemaGenerator().get_schema(request=None, public=True)  # type: ignore[no-untyped-call]
    schemas = whole.get("components", {}).get("schemas", {})
    operations = [
        _operation(method, path, node, schemas)
        for path, methods in whole["paths"].items()
        for method, node in methods.items()
        if method in METHODS
    ]
    order = [*GROUPS, *sorted({op.group for op in operations} - GROUPS.keys())]
    groups = [
        (name, GROUPS.get(name, name.replace("-", " ").capitalize()), found)
        for name in order
        if (found := [op for op in operations if op.group == name])
    ]
    things = [
        Thing(name, str(node.get("description", "")), _properties(node, schemas))
        for name, node in schemas.items()
        if node.get("properties") and not name.endswith("Request")
    ]
    return Reference(groups, things)
