"""Lists come in pages, newest first; a metered price stands on a meter."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from tests.stripe_standin import Handle


def test_a_list_is_walked_both_ways_without_gap_or_repeat(standin: Handle) -> None:
    email = f"{uuid.uuid4().hex}@example.com"
    made = [
        standin.call("POST", "/v1/customers", {"email": email, "name": str(n)}).json["id"]
        for n in range(7)
    ]
    seen: list[str] = []
    page: dict[str, Any] = {"has_more": True}
    while page["has_more"]:
        after = {"starting_after": seen[-1]} if seen else {}
        page = standin.call("GET", "/v1/customers", {"email": email, "limit": 3, **after}).json
        seen += [row["id"] for row in page["data"]]
    assert seen == made[::-1]
    back = standin.call(
        "GET", "/v1/customers", {"email": email, "limit": 3, "ending_before": seen[5]}
    ).json
    assert [row["id"] for row in back["data"]] == seen[2:5]
    assert back["has_more"] is True


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": 101}, "limit"),
        ({"limit": "many"}, "limit"),
        ({"starting_after": "cus_nowhere"}, "starting_after"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_wrong_page_is_refused(standin: Handle, query: dict[str, Any], param: str) -> None:
    reply = standin.call("GET", "/v1/customers", query)
    assert (reply.status, reply.error["param"]) == (400, param)


def test_a_customer_is_updated_and_its_metadata_merged(standin: Handle) -> None:
    path = f"/v1/customers/{standin.customer()}"
    standin.call("POST", path, {"metadata[org_id]": "o1", "metadata[plan]": "pro"})
    standin.call("POST", path, {"name": "Renamed", "metadata[plan]": ""})
    found = standin.call("GET", path).json
    assert (found["name"], found["metadata"]) == ("Renamed", {"org_id": "o1"})
    assert standin.call("GET", "/v1/customers/cus_nowhere").status == 404


def test_an_event_name_has_one_active_meter(standin: Handle) -> None:
    meter, name = standin.meter()
    fields = {"display_name": "d", "event_name": name, "default_aggregation[formula]": "sum"}
    assert standin.call("POST", "/v1/billing/meters", fields).error["param"] == "event_name"
    assert standin.call("POST", f"/v1/billing/meters/{meter}/deactivate").status == 200
    successor = standin.call("POST", "/v1/billing/meters", fields)
    assert successor.status == 200
    assert standin.call("POST", f"/v1/billing/meters/{meter}/reactivate").status == 400
    active = standin.call("GET", "/v1/billing/meters", {"status": "active", "limit": 100}).json
    assert [row["id"] for row in active["data"] if row["event_name"] == name] == [
        successor.json["id"]
    ]


def test_a_metered_price_is_made_on_a_meter(standin: Handle) -> None:
    meter, _ = standin.meter()
    product = standin.call("POST", "/v1/products", {"name": "Generation"}).json["id"]
    fields = {
        "currency": "usd",
        "product": product,
        "unit_amount_decimal": "0.0001",
        "recurring[interval]": "month",
        "recurring[usage_type]": "metered",
        "recurring[meter]": meter,
    }
    price = standin.call("POST", "/v1/prices", fields).json
    assert price["unit_amount_decimal"] == "0.0001"
    assert price["unit_amount"] is None
    assert price["recurring"]["meter"] == meter
    listed = standin.call("GET", "/v1/prices", {"product": product}).json["data"]
    assert [row["id"] for row in listed] == [price["id"]]
    lacking = {k: v for k, v in fields.items() if k != "recurring[meter]"}
    assert standin.call("POST", "/v1/prices", lacking).error["param"] == "recurring[meter]"
    unknown = {**fields, "recurring[meter]": "mtr_nowhere"}
    assert standin.call("POST", "/v1/prices", unknown).error["code"] == "resource_missing"
