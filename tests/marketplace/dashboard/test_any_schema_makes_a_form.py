"""Whatever schema a vendor may list, it makes a form: what fits no control is written as JSON."""

import json
from typing import Any

import pytest
from django.http import QueryDict
from django.template.loader import render_to_string
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from marketplace.catalog.schemas import check_schema, with_order
from marketplace.core.errors import InvalidInput
from marketplace.dashboard.schema_form import PlaygroundForm, initial_of

NUMBERS = st.integers(-1000, 5000) | st.floats(-100, 100, allow_nan=False).map(
    lambda x: round(x, 3)
)
WORDS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=12)
NAMES = st.sampled_from(
    ["prompt", "seed", "width", "height", "image", "mask_image", "loras", "steps", "tags", "style"]
)
JSONS = st.recursive(
    st.none() | st.booleans() | NUMBERS | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=5,
)


def optional(**keys: Any) -> Any:
    return st.fixed_dictionaries({}, optional=keys)


def merged(*parts: Any) -> Any:
    return st.tuples(*parts).map(lambda found: {k: v for part in found for k, v in part.items()})


TITLES = optional(
    title=WORDS, description=WORDS, default=JSONS, examples=st.lists(JSONS, max_size=2)
)
BOUNDS = optional(
    minimum=NUMBERS,
    maximum=NUMBERS,
    exclusiveMinimum=NUMBERS,
    exclusiveMaximum=NUMBERS,
    multipleOf=st.sampled_from([1, 2, 8, 64, 0.5, 0.01, 3.0]),
)
KINDS = st.one_of(
    st.just({}),
    merged(st.sampled_from([{"type": "integer"}, {"type": "number"}]), BOUNDS),
    merged(
        st.just({"type": "string"}),
        optional(
            minLength=st.integers(0, 5),
            maxLength=st.integers(5, 900),
            format=st.sampled_from(["file-id", "uri", "color"]),
        ),
    ),
    st.just({"type": "boolean"}),
    st.just({"type": "null"}),
    st.lists(JSONS, max_size=4, unique_by=json.dumps).map(lambda values: {"enum": values}),
    st.builds(lambda value: {"const": value}, JSONS),
    st.sampled_from([{"type": ["integer", "null"]}, {"type": ["string", "number"]}]),
)
NODES = st.recursive(
    KINDS,
    lambda inner: st.one_of(
        merged(st.just({"type": "array"}), optional(items=inner, maxItems=st.integers(0, 5))),
        st.builds(lambda node: {"anyOf": [node, {"type": "null"}]}, inner),
        st.builds(lambda a, b: {"oneOf": [a, b]}, inner, inner),
        st.builds(lambda n: {"type": "object", "properties": {"x": n}}, inner),
    ),
    max_leaves=4,
)
SCHEMAS = st.builds(
    lambda nodes, required: {
        "type": "object",
        "properties": nodes,
        "required": [name for name in required if name in nodes],
    },
    st.dictionaries(NAMES, merged(NODES, TITLES), max_size=6),
    st.lists(NAMES, max_size=3, unique=True),
)


def listable(schema: dict[str, Any]) -> bool:
    try:
        check_schema(schema)
    except InvalidInput:
        return False
    return True


def shown(form: PlaygroundForm) -> str:
    return "".join(
        render_to_string("playground/field.html", {"field": field, "max_bytes": 10})
        for field in [*form.main, *form.more]
    )


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(schema=SCHEMAS.filter(listable), texts=st.lists(WORDS, min_size=6, max_size=6))
def test_a_schema_that_can_be_listed_makes_a_form_that_can_be_sent(schema, texts):
    schema = with_order(schema)
    form = PlaygroundForm(schema, prefix="in", initial=initial_of(schema))
    wanted = {name for name, node in schema["properties"].items() if "const" not in node}
    assert wanted <= set(form.fields) | {
        # An "or null" around a constant is that constant.
        name
        for name, node in schema["properties"].items()
        if "const" in json.dumps(node)
    }
    page = shown(form)
    assert all(f'name="in-{name}' in page or "in-" + name in page for name in form.fields)
    data = QueryDict(mutable=True)
    for name, text in zip(form.fields, texts, strict=False):
        data[f"in-{name}"] = text
    sent = PlaygroundForm(schema, data, prefix="in")
    if sent.is_valid():
        json.dumps(sent.given())
    else:
        assert set(sent.errors) <= set(sent.fields)
    shown(sent)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(schema=SCHEMAS.filter(listable))
def test_the_defaults_go_through_the_form_unchanged(schema):
    schema = with_order(schema)
    form = PlaygroundForm(schema, prefix="in", initial=initial_of(schema))
    data = QueryDict(mutable=True)
    for name in form.fields:
        value = form[name].value()
        kind = form.controls[name].kind
        if kind in ("many",) and isinstance(value, list):
            data.setlist(f"in-{name}", value)
        elif kind == "boolean":
            data.update({f"in-{name}": "on"} if value else {})
        elif kind == "loras" and isinstance(value, list):
            continue
        elif value is not None:
            data[f"in-{name}"] = str(form.fields[name].widget.format_value(value))
    sent = PlaygroundForm(schema, data, prefix="in")
    sent.is_valid()
    for name, value in sent.given().items() if sent.is_valid() else ():
        node = schema["properties"][name]
        kind = sent.controls[name].kind
        if "default" in node and kind in ("slider", "number", "choice", "boolean", "seed", "json"):
            assert value == node["default"]
            assert Draft202012Validator(node).is_valid(value)


@pytest.mark.parametrize(
    ("node", "kind"),
    [
        ({"type": "string", "maxLength": 100}, "text"),
        ({"type": "string", "maxLength": 4000}, "long"),
        ({"type": "integer", "minimum": 1, "maximum": 50}, "slider"),
        ({"type": "number", "minimum": 0, "maximum": 1}, "slider"),
        ({"type": "integer"}, "number"),
        ({"type": ["integer", "null"], "minimum": 1, "maximum": 9}, "slider"),
        ({"anyOf": [{"type": "number", "minimum": 0, "maximum": 1}, {"type": "null"}]}, "slider"),
        ({"enum": ["a", 1, None]}, "choice"),
        ({"type": "boolean"}, "boolean"),
        ({"type": "string", "format": "file-id"}, "image"),
        ({"type": "array", "items": {"type": "string"}}, "lines"),
        ({"type": "array", "items": {"enum": ["a", "b"]}}, "many"),
        ({"type": "array", "items": {"type": "object"}}, "json"),
        ({"type": "object"}, "json"),
        ({"anyOf": [{"type": "string"}, {"type": "integer"}]}, "json"),
        ({}, "json"),
    ],
)
def test_each_kind_of_input_has_its_control(node, kind):
    schema = {"type": "object", "properties": {"thing": node}}
    check_schema(schema)
    assert PlaygroundForm(schema).controls["thing"].kind == kind


def form_with(**properties: Any) -> PlaygroundForm:
    return PlaygroundForm({"type": "object", "properties": properties}, prefix="in")


def test_sizes_have_presets_within_the_bounds():
    side = {"type": "integer", "minimum": 256, "maximum": 1024, "multipleOf": 8, "default": 1024}
    presets = form_with(width=side, height=side).controls["width"].presets
    assert [preset.name for preset in presets][:3] == ["Square", "Landscape", "Photo"]
    for preset in presets:
        assert 256 <= preset.width <= 1024
        assert 256 <= preset.height <= 1024
        assert preset.width % 16 == preset.height % 16 == 0
    assert (presets[0].width, presets[0].height) == (1024, 1024)


def test_sides_that_are_fixed_have_no_presets():
    fixed = {"type": "integer", "const": 128, "default": 128}
    assert form_with(width=fixed, height=fixed).controls == {}


def test_a_multiple_is_one_of_zero_and_not_of_the_least():
    node = {"type": "integer", "minimum": 1, "maximum": 30, "multipleOf": 8}
    field = form_with(frames=node).fields["frames"]
    assert (field.min_value, field.max_value) == (8, 24)
    assert field.clean("16") == 16


def test_a_mask_knows_the_picture_that_it_lies_on():
    file = {"type": "string", "format": "file-id"}
    form = form_with(style=file, image=file, mask_image=file)
    assert form.controls["mask_image"].kind == "mask"
    assert form.controls["mask_image"].over == "id_in-image"


def test_loras_are_rows_and_come_back_as_the_input_names_them():
    schema = {"type": "object", "properties": {"loras": {"type": "array", "maxItems": 4}}}
    data = QueryDict(
        "in-loras-0-uri=atelier/night:1&in-loras-0-scale=0.5&in-loras-1-uri=&in-loras-2-uri=b/c:2"
    )
    form = PlaygroundForm(schema, data, prefix="in")
    assert form.is_valid(), form.errors
    assert form.given() == {
        "loras": [{"uri": "atelier/night:1", "scale": 0.5}, {"uri": "b/c:2", "scale": 1.0}]
    }


@pytest.mark.parametrize("scale", ["nan", "inf", "9", "x"])
def test_a_strength_that_is_none_is_refused_at_its_field(scale):
    schema = {"type": "object", "properties": {"loras": {"type": "array"}}}
    data = QueryDict(f"in-loras-0-uri=a/b:1&in-loras-0-scale={scale}")
    form = PlaygroundForm(schema, data, prefix="in")
    assert not form.is_valid()
    assert list(form.errors) == ["loras"]
