"""What the stand-in answers fits the answers that Stripe's description promises."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from marketplace.local.stripe_standin.handlers import HANDLERS
from marketplace.local.stripe_standin.description import OPERATIONS, Description, load
from tests.stripe_standin import ROOT, Handle


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


def every_answer(standin: Handle) -> dict[tuple[str, str], Any]:
    meter, name = standin.meter()
    customer, product = standin.customer(), {"name": "P", "description": "d"}
    made = standin.call("POST", "/v1/products", product).json
    price = {
        "currency": "usd",
        "product": made["id"],
        "unit_amount": "5",
        "recurring[interval]": "month",
        "recurring[usage_type]": "metered",
        "recurring[meter]": meter,
    }
    bought = standin.call("POST", "/v1/prices", price).json
    event = {
        "event_name": name,
        "identifier": f"fit-{time.time_ns()}",
        "payload[stripe_customer_id]": customer,
        "payload[value]": "5",
    }
    summaries = {"customer": customer, "start_time": 0, "end_time": int(time.time()) // 60 * 60}
    cancel = {"event_name": name, "type": "cancel", "cancel[identifier]": event["identifier"]}
    calls: list[tuple[str, str, str, dict[str, Any]]] = [
        ("post", "/v1/customers", "", {"name": "N", "address[city]": "Oslo"}),
        ("get", "/v1/customers", "", {}),
        ("get", "/v1/customers/{customer}", customer, {}),
        ("post", "/v1/customers/{customer}", customer, {"email": "a@example.com"}),
        ("get", "/v1/billing/meters", "", {}),
        ("get", "/v1/billing/meters/{id}", meter, {}),
        ("post", "/v1/billing/meter_events", "", event),
        ("get", "/v1/billing/meters/{id}/event_summaries", meter, summaries),
        ("post", "/v1/billing/meter_event_adjustments", "", cancel),
        ("post", "/v1/products", "", product),
        ("get", "/v1/products", "", {}),
        ("get", "/v1/products/{id}", made["id"], {}),
        ("post", "/v1/prices", "", price),
        ("get", "/v1/prices", "", {}),
        ("get", "/v1/prices/{price}", bought["id"], {}),
        ("post", "/v1/billing/meters/{id}/deactivate", meter, {}),
        ("post", "/v1/billing/meters/{id}/reactivate", meter, {}),
        (
            "post",
            "/v1/billing/meters",
            "",
            {
                "display_name": "d",
                "event_name": f"{name}_2",
                "default_aggregation[formula]": "count",
            },
        ),
    ]
    answers = {}
    for method, path, id_, fields in calls:
        concrete = "/".join(id_ if part.startswith("{") else part for part in path.split("/"))
        reply = standin.call(method.upper(), concrete, fields)
        assert reply.status == 200, (path, reply.json)
        answers[method, path] = reply.json
    return answers


def test_every_answer_fits(standin: Handle, description: Description) -> None:
    answers = every_answer(standin)
    assert set(answers) == set(OPERATIONS)
    for operation, answer in answers.items():
        schema = json_schema(description.operations[operation].response)
        jsonschema.validate(answer, schema)
        broken = {key: value for key, value in answer.items() if key != "object"}
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(broken, schema)


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
