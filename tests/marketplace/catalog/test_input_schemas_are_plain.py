"""What an input schema may contain, and what is said of an input that does not fit it."""

import pytest

from marketplace.catalog.schemas import check_schema, in_order, validate_input, with_order
from marketplace.core.errors import InvalidInput
from marketplace.jobs.quoting import upper_bound


def schema(**properties):
    return {"type": "object", "properties": properties}


@pytest.mark.parametrize("name", ["", "1st", "it's", "a b", "a-b", "é", "a\n", "x" * 65])
def test_names_are_plain(name):
    check_schema(schema(**{"x" * 64: {}, "_a1": {}}))
    with pytest.raises(InvalidInput) as refusal:
        check_schema(schema(**{name: {"type": "string"}}))
    assert "input_schema" in refusal.value.fields


@pytest.mark.parametrize("node", [True, False, None, "string", []])
def test_every_property_is_an_object(node):
    with pytest.raises(InvalidInput) as refusal:
        check_schema(schema(prompt=node))
    assert refusal.value.fields == {"input_schema": ["The property prompt must be an object."]}


def test_a_schema_is_at_most_64_kib():
    check_schema(schema(prompt={"description": "x" * 60_000}))
    with pytest.raises(InvalidInput):
        check_schema(schema(prompt={"description": "x" * 66_000}))


@pytest.mark.parametrize(
    "node",
    [
        {"type": "integer", "default": "4"},
        {"type": "integer", "maximum": 4, "default": 5},
        {"enum": ["a", "b"], "default": "c"},
    ],
)
def test_a_default_fits_its_own_property(node):
    check_schema(schema(size={"type": "integer", "maximum": 4, "default": 4}))
    with pytest.raises(InvalidInput) as refusal:
        check_schema(schema(size=node))
    assert "size" in refusal.value.message


def test_the_order_is_the_documents_whatever_the_vendor_numbered():
    ordered = with_order(schema(first={"x-order": 9}, second={"x-order": "a"}, third={}))
    assert [name for name, _ in in_order(ordered)] == ["first", "second", "third"]


def test_every_missing_field_is_named_once():
    wanted = schema(a={}, b={}, c={}) | {"required": ["a", "b", "c"]}
    with pytest.raises(InvalidInput) as refusal:
        validate_input(wanted, {"b": 1})
    said = ["This field is required."]
    assert refusal.value.fields == {"input.a": said, "input.c": said}


def test_every_unknown_field_is_named():
    with pytest.raises(InvalidInput) as refusal:
        validate_input(schema(a={}), {"x": 1, "y": 2})
    assert set(refusal.value.fields) == {"input.x", "input.y"}


@pytest.mark.parametrize("value", [float("inf"), float("nan"), True, "9", None, [9]])
def test_a_bound_ignores_what_is_no_number(value):
    for given, node in [({"width": value}, {}), ({}, {"default": value}), ({}, value)]:
        bound = upper_bound(schema(width=node, height={"default": 1000}), given, 1)
        assert bound["megapixels"] == "1.024"
