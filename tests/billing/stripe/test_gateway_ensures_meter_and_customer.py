"""Meters and customers are made once, however often and from wherever they are asked for."""

from __future__ import annotations

import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from billing.stripe.gateway import GatewayRefused, GatewayUnavailable, StripeGateway
from tests.stripe_standin import KEY, Handle


@pytest.fixture
def gateway(standin: Handle) -> StripeGateway:
    """A gateway to the session's stand-in."""
    return StripeGateway(KEY, base=standin.url)


def test_a_meter_is_made_once(standin: Handle, gateway: StripeGateway) -> None:
    name = f"spend_{uuid.uuid4().hex[:8]}"
    first = gateway.meter_ensure(name, "Spend")
    assert gateway.meter_ensure(name, "Spend, renamed") == first
    meter = standin.call("GET", f"/v1/billing/meters/{first}").json
    assert meter["event_name"] == name
    assert meter["default_aggregation"] == {"formula": "sum"}


def test_two_processes_that_make_the_meter_at_once_get_the_same(standin: Handle) -> None:
    name = f"spend_{uuid.uuid4().hex[:8]}"
    standin.fault("delay", "/v1/billing/meters", times=None, delay_s=0.05)

    def ensure(_: int) -> str:
        return StripeGateway(KEY, base=standin.url).meter_ensure(name, "Spend")

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(ensure, range(4)))) == 1


def test_a_meter_beyond_the_first_page_is_found(standin: Handle, gateway: StripeGateway) -> None:
    oldest, name = standin.meter()
    for _ in range(101):
        standin.meter()
    assert gateway.meter_ensure(name, "Usage") == oldest


def test_a_customer_is_made_once_and_takes_a_new_name(
    standin: Handle, gateway: StripeGateway
) -> None:
    org_id = uuid.uuid4().hex
    first = gateway.customer_ensure(org_id, "Org", "a@example.com")
    assert gateway.customer_ensure(org_id, "Org, renamed", "b@example.com") == first
    customer = standin.call("GET", f"/v1/customers/{first}").json
    assert customer["name"] == "Org, renamed"
    assert customer["email"] == "b@example.com"
    assert customer["metadata"] == {"org_id": org_id}
    assert gateway.customer_ensure(uuid.uuid4().hex, "Org", "a@example.com") != first


def test_a_customer_whose_answer_was_lost_is_not_made_twice(
    standin: Handle, gateway: StripeGateway
) -> None:
    org_id = uuid.uuid4().hex
    standin.fault("drop_after", "/v1/customers")
    with pytest.raises(GatewayUnavailable):
        gateway.customer_ensure(org_id, "Org", "a@example.com")
    made = gateway.customer_ensure(org_id, "Org", "a@example.com")
    newest = standin.call("GET", "/v1/customers", {"limit": 100}).json["data"]
    assert [c["id"] for c in newest if c["metadata"].get("org_id") == org_id] == [made]


def test_a_stored_500_is_passed_with_the_next_attempt(
    standin: Handle, gateway: StripeGateway
) -> None:
    org_id = uuid.uuid4().hex
    standin.fault("500_stored", "/v1/customers")
    for _ in range(2):
        with pytest.raises(GatewayUnavailable, match="500"):
            gateway.customer_ensure(org_id, "Org", "a@example.com")
    made = gateway.customer_ensure(org_id, "Org", "a@example.com", attempt=1)
    assert made.startswith("cus_")


def test_what_stripe_refuses_is_told_apart_from_what_may_work_later(
    standin: Handle, gateway: StripeGateway
) -> None:
    with pytest.raises(GatewayRefused, match="must be at most 256"):
        gateway.customer_ensure(uuid.uuid4().hex, "n" * 257, "a@example.com")
    standin.fault("429", "/v1/billing/meters", retry_after=4)
    with pytest.raises(GatewayUnavailable) as failure:
        gateway.meter_ensure("any", "Any")
    assert failure.value.retry_after_s == 4.0


def test_a_total_needs_whole_minutes_and_a_known_meter(gateway: StripeGateway) -> None:
    minute = int(time.time()) // 60 * 60
    with pytest.raises(ValueError, match="whole minutes"):
        gateway.event_summary_total("mtr_x", "cus_x", minute + 1, minute + 60)
    with pytest.raises(GatewayRefused, match="No such meter"):
        gateway.event_summary_total("mtr_x", "cus_x", minute, minute + 60)
