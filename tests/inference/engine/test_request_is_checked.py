"""A bad field of a request is refused by its name."""

from __future__ import annotations

from typing import Any

import pytest

from inference.engine.request import GenerationRequest


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("prompt", " "),
        ("prompt", 3),
        ("negative_prompt", ["x"]),
        ("width", 0),
        ("height", "64"),
        ("steps", 0),
        ("steps", 2.5),
        ("steps", True),
        ("guidance", -1),
        ("guidance", "strong"),
        ("seed", -1),
        ("seed", 2**63),
        ("num_images", 0),
        ("colour", "red"),
    ],
)
def test_a_bad_field_is_named(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"^{field} "):
        GenerationRequest.from_dict({"prompt": "a", field: value})


def test_a_missing_prompt_is_named() -> None:
    with pytest.raises(ValueError, match="^prompt is required"):
        GenerationRequest.from_dict({"steps": 2})


def test_null_stands_for_the_default() -> None:
    request = GenerationRequest.from_dict({"prompt": "a", "steps": None, "seed": None})
    assert request == GenerationRequest(prompt="a")
