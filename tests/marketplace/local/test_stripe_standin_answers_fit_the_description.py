"""What the stand-in answers fits the answers that Stripe's description promises."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest

from marketplace.local.stripe_standin.description import OPERATIONS, Description, load
from marketplace.local.stripe_standin.handlers import HANDLERS
from tests.stripe_answers import every_answer
from tests.stripe_standin import ROOT, Handle, start


@pytest.fixture(scope="module")
def description(shared_standin: Handle) -> Description:
    """The cached extract that the running stand-in made."""
    return load(ROOT / "var" / "cache", lambda line: pytest.fail(f"not cached: {line}"))


def json_schema(schema: Any) -> Any:
    """Turn OpenAPI 3.0's `nullable` into JSON Schema."""
    if isinstance(schema, list):
        return [json_schema(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    out = {key: json_schema(value) for key, value in schema.items() if key != "nullable"}
    return {"anyOf": [out, {"type": "null"}]} if schema.get("nullable") is True else out


def test_every_answer_fits(description: Description) -> None:
    standin = start()
    try:
        answers = every_answer(standin)
    finally:
        standin.stop()
    assert set(answers) == set(OPERATIONS)
    for operation, answer in answers.items():
        schema = json_schema(description.operations[operation].response)
        validator = jsonschema.Draft202012Validator(schema)
        if error := jsonschema.exceptions.best_match(validator.iter_errors(answer)):
            pytest.fail(f"{operation} at {error.json_path}: {error.message[:300]}")
        if answer == {}:  # the stream answers nothing
            continue
        broken = {key: value for key, value in answer.items() if key != "object"}
        assert not validator.is_valid(broken)


def test_every_described_operation_has_a_handler() -> None:
    assert set(HANDLERS) == set(OPERATIONS)


def test_the_extract_is_taken_from_the_wheel_once(tmp_path: Path) -> None:
    lines: list[str] = []
    first = load(tmp_path, lines.append)
    assert any("reading Stripe's published description" in line for line in lines)
    assert first.api_version.startswith("2026-05-27")
    lines.clear()
    assert load(tmp_path, lines.append) == first
    assert lines == []
