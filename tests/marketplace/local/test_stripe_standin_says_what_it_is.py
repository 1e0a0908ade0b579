"""No answer, page or log line of the stand-in can be taken for Stripe."""

from __future__ import annotations

import pytest

from tests.stripe_standin import Handle


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/_standin/state"),
        ("GET", "/_standin/nowhere"),
        ("GET", "/v1/customers"),
        ("POST", "/v1/customers"),
        ("GET", "/v1/nowhere"),
        ("DELETE", "/v2/anything"),
    ],
)
def test_every_answer_carries_the_header(standin: Handle, method: str, path: str) -> None:
    reply = standin.call(method, path)
    assert reply.headers["X-Mercato-Stand-In"] == "true"
    assert reply.headers["Request-Id"].startswith("req_standin_")


def test_the_page_says_it_in_large_letters(standin: Handle) -> None:
    reply = standin.raw("GET", "/")
    heading = reply.json.partition("<h1>")[2].partition("</h1>")[0]
    assert "STAND-IN" in heading
    assert "This is not Stripe" in heading
    assert "No money moves" in heading


def test_names_on_the_page_are_escaped(standin: Handle) -> None:
    (_, name) = standin.meter()
    made = standin.call("POST", "/v1/customers", {"name": "<script>alert(1)</script>"}).json
    standin.call(
        "POST",
        "/v1/billing/meter_events",
        {"event_name": name, "payload[stripe_customer_id]": made["id"], "payload[value]": "1"},
    )
    page = standin.raw("GET", "/").json
    assert made["id"] in page
    assert "<script>" not in page


def test_every_log_line_says_it(standin: Handle) -> None:
    standin.call("GET", "/v1/customers")
    lines = standin.log.read_text().splitlines()
    assert len(lines) >= 2
    assert all("Stripe stand-in" in line for line in lines)
