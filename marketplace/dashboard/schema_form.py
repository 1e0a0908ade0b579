"""A form made from a model's input schema, and back to the input that the schema describes."""

import json
from typing import Any

from django import forms

from marketplace.catalog.schemas import in_order
from marketplace.dashboard.fields import CleanJSONField

_LONG_TEXT = ("prompt", "negative_prompt", "text")


class PlaygroundForm(forms.Form):
    """One field per input; `given` returns only what was filled in."""

    def __init__(self, schema: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        required = set(schema.get("required", []))
        for name, node in in_order(schema):
            # A constant is nobody's choice: its default is filled in.
            if "const" not in node:
                self.fields[name] = _field(name, node, name in required)

    @property
    def main(self) -> list[forms.BoundField]:
        """Return what everybody fills in: required fields and texts."""
        return [self[name] for name, field in self.fields.items() if _is_main(name, field)]

    @property
    def more(self) -> list[forms.BoundField]:
        """Return the settings that have good defaults."""
        return [self[name] for name, field in self.fields.items() if not _is_main(name, field)]

    def given(self) -> dict[str, Any]:
        """Return the input; fields left empty are left out, so that defaults apply."""
        found = {}
        for name, value in self.cleaned_data.items():
            if value is None or value == "":
                continue
            found[name] = json.loads(value) if name in self._choices() else value
        return found

    def _choices(self) -> set[str]:
        return {name for name, field in self.fields.items() if isinstance(field, forms.ChoiceField)}


def _is_main(name: str, field: forms.Field) -> bool:
    return field.required or name == "prompt"


def initial_of(schema: dict[str, Any], values: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return what the form shows at first: the schema's defaults, or an earlier job's input."""
    found = {}
    for name, node in in_order(schema):
        if not isinstance(node, dict):
            continue
        value = (values or {}).get(name, node.get("default"))
        if value is None:
            continue
        if "enum" in node or node.get("type") in ("array", "object"):
            value = json.dumps(value)
        found[name] = value
    return found


def _example(node: dict[str, Any]) -> Any:
    examples = node.get("examples")
    return examples[0] if isinstance(examples, list) and examples else None


def _number(node: dict[str, Any], common: dict[str, Any]) -> forms.Field:
    low, high, step = node.get("minimum"), node.get("maximum"), node.get("multipleOf")
    if node["type"] == "integer":
        return forms.IntegerField(min_value=low, max_value=high, step_size=step, **common)
    widget = forms.NumberInput(attrs={"step": "any"})
    return forms.FloatField(min_value=low, max_value=high, widget=widget, **common)


def _field(name: str, node: dict[str, Any], is_required: bool) -> forms.Field:
    kind = node.get("type")
    common: dict[str, Any] = {
        "label": str(node.get("title") or name.replace("_", " ").capitalize()),
        "help_text": str(node.get("description", "")),
        "required": is_required and "default" not in node,
    }
    if isinstance(node.get("enum"), list):
        choices = [(json.dumps(value), str(value)) for value in node["enum"]]
        if not common["required"] and "default" not in node:
            choices.insert(0, ("", "Automatic"))
        return forms.ChoiceField(choices=choices, **common)
    if kind in ("integer", "number"):
        return _number(node, common)
    if kind == "boolean":
        return forms.BooleanField(**{**common, "required": False})
    if kind == "string":
        longest = node.get("maxLength")
        is_long = name in _LONG_TEXT or (longest or 0) > 300
        attrs = {"placeholder": str(example)} if (example := _example(node)) else {}
        widget = forms.Textarea(attrs | {"rows": 3}) if is_long else forms.TextInput(attrs)
        return forms.CharField(max_length=longest, strip=False, widget=widget, **common)
    return CleanJSONField(widget=forms.Textarea(attrs={"rows": 3}), **common)
