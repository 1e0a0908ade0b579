"""A form made from a model's input schema, and back to the input that the schema describes."""

import json
from typing import Any

from django import forms
from django.http import QueryDict
from django.utils.datastructures import MultiValueDict

from marketplace.catalog.schemas import in_order
from marketplace.dashboard.fields import CleanJSONField
from marketplace.dashboard.schema_controls import (
    Control,
    LinesField,
    LorasField,
    bounds_of,
    is_file,
    plain,
    presets_of,
    slider_of,
)
from marketplace.jobs.loras import FIELD as LORAS

_LONG_TEXT = ("prompt", "negative_prompt", "text")
_LONG_CHARS = 300
_MAX_CHOICES = 200
_MAIN = ("image", "mask", "file", "loras")


class PlaygroundForm(forms.Form):
    """One field per input; `given` returns only what was filled in.

    `controls` says by name how each is shown; a field that is asked for by `main` or `more` has
    its own as `control`. What no other control fits is written as JSON.
    """

    def __init__(self, schema: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        required = set(schema.get("required", []))
        self.controls: dict[str, Control] = {}
        nodes = {name: plain(node) for name, node in in_order(schema)}
        for name, node in nodes.items():
            # A constant is nobody's choice: its default is filled in.
            if "const" in node:
                continue
            field, control = _field(name, node, name in required)
            self.fields[name], self.controls[name] = field, control
        self._join(nodes)

    def _join(self, nodes: dict[str, dict[str, Any]]) -> None:
        """Tell controls of each other: a mask of its picture, a width of its height."""
        pictures = [name for name, control in self.controls.items() if control.kind == "image"]
        for control in self.controls.values():
            if control.kind == "mask":
                over = next((p for p in pictures if p == "image"), pictures[0] if pictures else "")
                control.over = str(self[over].auto_id) if over else ""
        if {"width", "height"} <= self.controls.keys():
            width, height = self.controls["width"], self.controls["height"]
            width.presets = presets_of(nodes["width"], nodes["height"])
            if width.presets:
                width.over, height.grouped = str(self["height"].auto_id), True

    def _bound(self, name: str) -> forms.BoundField:
        bound = self[name]
        control = self.controls[name]
        control.value = bound.value()
        if control.kind == "loras":
            control.rows = self.fields[name].rows(control.value)  # type: ignore[attr-defined]
        bound.control = control  # type: ignore[attr-defined]
        return bound

    @property
    def main(self) -> list[forms.BoundField]:
        """Return what everybody fills in: required fields, texts and pictures."""
        return [self._bound(name) for name in self.fields if self._is_main(name)]

    @property
    def more(self) -> list[forms.BoundField]:
        """Return the settings that have good defaults."""
        return [self._bound(name) for name in self.fields if not self._is_main(name)]

    def _is_main(self, name: str) -> bool:
        return self.fields[name].required or name == "prompt" or self.controls[name].kind in _MAIN

    def files_named(self) -> dict[str, str]:
        """Return the ids of files that the fields name, as they are filled in."""
        kinds = ("image", "mask", "file")
        names = [name for name, control in self.controls.items() if control.kind in kinds]
        return {name: str(value) for name in names if (value := self[name].value())}

    def given(self) -> dict[str, Any]:
        """Return the input; fields left empty are left out, so that defaults apply."""
        found = {}
        for name, value in self.cleaned_data.items():
            if value is None or value == "" or value == []:
                continue
            kind = self.controls[name].kind
            if kind == "choice":
                found[name] = json.loads(value)
            elif kind == "many":
                found[name] = [json.loads(one) for one in value]
            else:
                found[name] = value
        return found


def initial_of(schema: dict[str, Any], values: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return what the form shows at first: the schema's defaults, or an earlier job's input."""
    found = {}
    for name, original in in_order(schema):
        node = plain(original)
        value = (values or {}).get(name, node.get("default"))
        if value is None:
            continue
        control = _field(name, node, required=False)[1]
        if control.kind == "choice":
            value = json.dumps(value)
        elif control.kind == "many" and isinstance(value, list):
            value = [json.dumps(one) for one in value]
        found[name] = value
    return found


def with_files(data: QueryDict, names: dict[str, str], prefix: str) -> QueryDict:
    """Return what was posted, with the ids of files that were stored on the way put in."""
    changed = data.copy()
    for name, file_id in names.items():
        changed[f"{prefix}-{name}"] = file_id
    return changed


def files_sent(
    form: PlaygroundForm, files: MultiValueDict[str, Any], prefix: str
) -> dict[str, Any]:
    """Return the files that a browser without scripts sent along with the form, by field."""
    found = {}
    for name, control in form.controls.items():
        sent = files.get(f"{prefix}-{name}-file")
        if control.kind in ("image", "mask", "file") and sent is not None:
            found[name] = sent
    return found


def _example(node: dict[str, Any]) -> Any:
    examples = node.get("examples")
    return examples[0] if isinstance(examples, list) and examples else None


def _field(name: str, node: dict[str, Any], required: bool) -> tuple[forms.Field, Control]:
    """Return the field of a property and how it is shown."""
    kind = node.get("type")
    common: dict[str, Any] = {
        "label": str(node.get("title") or name.replace("_", " ").capitalize()),
        "help_text": str(node.get("description", "")),
        "required": required and "default" not in node,
    }
    enum = node.get("enum")
    if isinstance(enum, list) and 0 < len(enum) <= _MAX_CHOICES:
        return _choice(enum, node, common)
    if kind in ("integer", "number"):
        return _number(name, node, common)
    if kind == "boolean":
        return forms.BooleanField(**{**common, "required": False}), Control("boolean")
    if is_file(node):
        return _file(name, common)
    if kind == "string":
        return _text(name, node, common)
    if kind == "array":
        return _array(name, node, common)
    return _json(common)


def _json(common: dict[str, Any]) -> tuple[forms.Field, Control]:
    widget = forms.Textarea(attrs={"rows": 3, "class": "code", "spellcheck": "false"})
    return CleanJSONField(widget=widget, **common), Control("json")


def _choice(
    enum: list[Any], node: dict[str, Any], common: dict[str, Any]
) -> tuple[forms.Field, Control]:
    choices = [(json.dumps(value), str(value)) for value in enum]
    if not common["required"] and "default" not in node:
        choices.insert(0, ("", "Automatic"))
    return forms.ChoiceField(choices=choices, **common), Control("choice")


def _number(name: str, node: dict[str, Any], common: dict[str, Any]) -> tuple[forms.Field, Control]:
    low, high = bounds_of(node)
    field: forms.Field
    if node["type"] == "integer":
        multiple = node.get("multipleOf")
        whole = int(multiple) if multiple and float(multiple).is_integer() else None
        field = forms.IntegerField(min_value=low, max_value=high, step_size=whole, **common)
    else:
        widget = forms.NumberInput(attrs={"step": "any"})
        field = forms.FloatField(min_value=low, max_value=high, widget=widget, **common)
    if name == "seed" and node["type"] == "integer":
        most = min(int(high), 2**32 - 1) if high is not None else 2**32 - 1
        return field, Control("seed", low=max(int(low or 0), 0), high=most)
    slider = slider_of(node, low, high)
    return field, slider or Control("number")


def _file(name: str, common: dict[str, Any]) -> tuple[forms.Field, Control]:
    kind = "mask" if "mask" in name else "file" if "video" in name or "audio" in name else "image"
    field = forms.CharField(max_length=64, widget=forms.HiddenInput, **common)
    return field, Control(kind)


def _text(name: str, node: dict[str, Any], common: dict[str, Any]) -> tuple[forms.Field, Control]:
    longest, shortest = node.get("maxLength"), node.get("minLength")
    is_long = name in _LONG_TEXT or (longest or 0) > _LONG_CHARS
    attrs = {"placeholder": str(example)} if (example := _example(node)) else {}
    widget = forms.Textarea(attrs | {"rows": 3}) if is_long else forms.TextInput(attrs)
    field = forms.CharField(
        max_length=None if longest is None else int(longest),
        min_length=None if shortest is None else int(shortest),
        strip=False,
        widget=widget,
        **common,
    )
    return field, Control("long" if is_long else "text")


def _array(name: str, node: dict[str, Any], common: dict[str, Any]) -> tuple[forms.Field, Control]:
    if name == LORAS:
        most = node.get("maxItems")
        field = LorasField(most=None if most is None else int(most), **common)
        return field, Control("loras")
    items = plain(node.get("items"))
    enum = items.get("enum")
    if isinstance(enum, list) and 0 < len(enum) <= _MAX_CHOICES:
        choices = [(json.dumps(value), str(value)) for value in enum]
        widget = forms.CheckboxSelectMultiple
        return forms.MultipleChoiceField(choices=choices, widget=widget, **common), Control("many")
    if items.get("type") in ("string", "integer", "number") and not is_file(items):
        return LinesField(kind=items["type"], **common), Control("lines")
    return _json(common)
