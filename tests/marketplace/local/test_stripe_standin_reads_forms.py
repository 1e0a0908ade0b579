"""Bracketed form fields come back as the structure they were made from."""

from __future__ import annotations

from urllib.parse import urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from marketplace.local.stripe_standin.errors import ApiError
from marketplace.local.stripe_standin.forms import Form, decode

NAMES = st.text("abcdefgh_", min_size=1, max_size=6)
VALUES = st.recursive(
    st.text(max_size=8),
    lambda inner: (
        st.lists(inner, min_size=1, max_size=4)
        | st.dictionaries(NAMES, inner, min_size=1, max_size=4)
    ),
    max_leaves=12,
)


def flatten(value: Form, name: str) -> list[tuple[str, str]]:
    if isinstance(value, str):
        return [(name, value)]
    items = enumerate(value) if isinstance(value, list) else value.items()
    return [pair for key, inner in items for pair in flatten(inner, f"{name}[{key}]")]


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(NAMES, VALUES, max_size=4))
def test_what_is_encoded_is_decoded(form: dict[str, Form]) -> None:
    pairs = [pair for name, value in form.items() for pair in flatten(value, name)]
    assert decode(urlencode(pairs)) == form


def test_empty_brackets_append() -> None:
    assert decode("expand[]=a&expand[]=b") == {"expand": ["a", "b"]}


@pytest.mark.parametrize("text", ["a[b=1", "a]b=1", "[a]=1", "a=1&a[b]=2", "a[b]=2&a=1"])
def test_a_malformed_name_is_refused(text: str) -> None:
    with pytest.raises(ApiError):
        decode(text)


def test_deep_nesting_is_refused() -> None:
    with pytest.raises(ApiError):
        decode("a" + "[b]" * 50 + "=1")
