"""Models of the market, and what their inputs are."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from mercato.types import Json

_PAIRS = (
    ("minimum", "maximum", ""),
    ("exclusiveMinimum", "exclusiveMaximum", " (neither included)"),
    ("minLength", "maxLength", " characters"),
    ("minItems", "maxItems", " items"),
)


@dataclass(frozen=True)
class Input:
    """One input of a model. `type` is JSON Schema's, or `file` for what takes an upload."""

    name: str
    type: str
    required: bool
    default: Any
    limits: str
    about: str
    schema: Json = field(repr=False)

    @classmethod
    def from_schema(cls, name: str, node: Json, required: bool) -> Input:
        """Read a property of an input schema."""
        kind = node.get("type", "any")
        kind = "|".join(kind) if isinstance(kind, list) else str(kind)
        return cls(
            name=name,
            type="file" if node.get("format") == "file-id" else kind,
            required=required and "default" not in node,
            default=node.get("default"),
            limits=limits_of(node),
            about=str(node.get("description") or node.get("title") or ""),
            schema=node,
        )


def limits_of(node: Json) -> str:
    """Return in words what a schema allows of a value."""
    said = []
    if "enum" in node:
        said.append("one of " + ", ".join(str(value) for value in node["enum"]))
    if "const" in node:
        said.append(f"always {node['const']}")
    for least, most, what in _PAIRS:
        if least in node and most in node:
            said.append(f"{node[least]} to {node[most]}{what}")
        elif least in node:
            said.append(f"at least {node[least]}{what}")
        elif most in node:
            said.append(f"at most {node[most]}{what}")
    if "multipleOf" in node:
        said.append(f"a multiple of {node['multipleOf']}")
    return ", ".join(said)


@dataclass(frozen=True)
class Version:
    """A version of a model. `price` and `licence` are as the API describes them."""

    id: str
    number: int
    family: str
    input_schema: Json
    price: Json | None
    licence: Json
    ends_at: str | None
    raw: Json = field(repr=False, compare=False)

    @classmethod
    def from_json(cls, data: Json) -> Version:
        """Read a version."""
        return cls(
            id=data["id"],
            number=data["number"],
            family=data["family"],
            input_schema=data["input_schema"],
            price=data.get("price"),
            licence=data["licence"],
            ends_at=data.get("ends_at"),
            raw=data,
        )

    @property
    def inputs(self) -> list[Input]:
        """Its inputs: required ones first, then in the schema's order."""
        required = self.input_schema.get("required", [])
        nodes: Json = self.input_schema.get("properties", {})
        found = [
            Input.from_schema(name, node, name in required)
            for name, node in nodes.items()
            if isinstance(node, dict)
        ]
        found.sort(key=lambda each: each.schema.get("x-order", len(found)))
        return sorted(found, key=lambda each: not each.required)


@dataclass(frozen=True)
class Model:
    """A model; `ref` is what calls name it by, `version` what such a call means now."""

    ref: str
    title: str
    summary: str
    description: str
    task: str
    version: Version | None
    raw: Json = field(repr=False, compare=False)

    @classmethod
    def from_json(cls, data: Json) -> Model:
        """Read a model."""
        return cls(
            ref=data["model"],
            title=data["title"],
            summary=data["summary"],
            description=data["description"],
            task=data["task"],
            version=Version.from_json(data["version"]) if data.get("version") else None,
            raw=data,
        )

    @property
    def inputs(self) -> list[Input]:
        """The inputs of its version."""
        return self.version.inputs if self.version else []
