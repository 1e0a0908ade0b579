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
    with pytest.raises(ValueError, match=r"^prompt is required"):
        GenerationRequest.from_dict({"steps": 2})


@pytest.mark.parametrize("field", ["num_inference_steps", "guidance_scale"])
def test_the_ecosystems_names_are_known_and_named_back(field: str) -> None:
    assert GenerationRequest.from_dict({"prompt": "a", field: 3}) != GenerationRequest(prompt="a")
    with pytest.raises(ValueError, match=f"^{field} must"):
        GenerationRequest.from_dict({"prompt": "a", field: "three"})


def test_a_field_given_under_two_names_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^num_inference_steps says the same as steps"):
        GenerationRequest.from_dict({"prompt": "a", "steps": 2, "num_inference_steps": 3})


def test_defaults_fill_only_what_is_left_open() -> None:
    request = GenerationRequest(prompt="a", steps=3)
    filled = request.with_defaults({"steps": 8, "width": 128, "max_sequence_length": 32})
    assert (filled.steps, filled.width, filled.max_sequence_length) == (3, 128, 32)


def test_null_stands_for_the_default() -> None:
    request = GenerationRequest.from_dict({"prompt": "a", "steps": None, "seed": None})
    assert request == GenerationRequest(prompt="a")
