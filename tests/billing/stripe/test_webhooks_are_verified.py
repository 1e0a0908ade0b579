"""Only what Stripe signed, lately, is an event; both of its kinds come out in one form."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from billing.stripe.gateway import WebhookRefused, webhook_parse
from marketplace.local.stripe_standin.delivery import sign
from tests.stripe_receiver import SECRET, receiving
from tests.stripe_standin import Handle

SNAPSHOT = {
    "id": "evt_1",
    "object": "event",
    "api_version": "2026-10-28.endive",
    "created": 1_800_000_000,
    "data": {
        "object": {"id": "in_1", "object": "invoice", "metadata": {"org_id": "o"}},
        "previous_attributes": {"status": "draft"},
    },
    "livemode": False,
    "type": "invoice.paid",
}
THIN = {
    "id": "evt_2",
    "object": "v2.core.event",
    "created": "2027-01-15T08:00:00.000Z",
    "livemode": False,
    "related_object": {"id": "acct_1", "type": "v2.core.account", "url": "/v2/core/accounts/1"},
    "type": "v2.core.account[requirements].updated",
}


def signed(body: Any, *, age_s: int = 0, secret: str = SECRET) -> tuple[bytes, str]:
    raw = json.dumps(body).encode()
    return raw, sign(raw, secret, int(time.time()) - age_s)


def test_a_snapshot_event_carries_its_object() -> None:
    event = webhook_parse(*signed(SNAPSHOT), SECRET)
    assert (event.id, event.type, event.created) == ("evt_1", "invoice.paid", 1_800_000_000)
    assert (event.object_type, event.object_id) == ("invoice", "in_1")
    assert event.metadata == {"org_id": "o"}
    assert event.previous == {"status": "draft"}
    assert not event.is_thin
    assert event.account == ""


def test_a_thin_event_names_its_object() -> None:
    event = webhook_parse(*signed(THIN), SECRET)
    assert event.is_thin
    assert (event.object_type, event.object_id) == ("v2.core.account", "acct_1")
    assert event.created == 1_800_000_000
    assert event.data == {}


def test_the_account_of_a_connected_vendor_is_told() -> None:
    assert webhook_parse(*signed({**SNAPSHOT, "account": "acct_9"}), SECRET).account == "acct_9"
    assert webhook_parse(*signed({**THIN, "context": "acct_9"}), SECRET).account == "acct_9"


def test_any_of_several_secrets_will_do() -> None:
    assert webhook_parse(*signed(SNAPSHOT), ["whsec_other", SECRET]).id == "evt_1"


@pytest.mark.parametrize("secret", ["", [], ["", " "]])
def test_without_a_secret_nothing_is_trusted(secret: Any) -> None:
    with pytest.raises(WebhookRefused, match="no webhook secret is configured"):
        webhook_parse(*signed(SNAPSHOT), secret)
    with pytest.raises(WebhookRefused):
        webhook_parse(*signed(SNAPSHOT, secret=""), secret)


def test_a_wrong_secret_a_changed_body_and_an_old_signature_are_refused() -> None:
    body, header = signed(SNAPSHOT)
    with pytest.raises(WebhookRefused, match="signature"):
        webhook_parse(body, header, "whsec_other")
    with pytest.raises(WebhookRefused, match="signature"):
        webhook_parse(body.replace(b"in_1", b"in_2"), header, SECRET)
    with pytest.raises(WebhookRefused, match="tolerance"):
        webhook_parse(*signed(SNAPSHOT, age_s=301), SECRET)
    assert webhook_parse(*signed(SNAPSHOT, age_s=290), SECRET).id == "evt_1"


@pytest.mark.parametrize("header", [None, "", "t=1", "v1=ab", "t=x,v1=ab", "nonsense", "t=,v1="])
def test_a_header_that_is_none_is_refused(header: str | None) -> None:
    with pytest.raises(WebhookRefused):
        webhook_parse(signed(SNAPSHOT)[0], header, SECRET)


@pytest.mark.parametrize(
    "body",
    [
        [],
        {},
        {"object": "event"},
        {"object": "charge", "id": "ch_1"},
        {**SNAPSHOT, "data": None},
        {**SNAPSHOT, "data": {"object": "in_1"}},
        {**THIN, "created": "yesterday"},
        {**THIN, "related_object": "acct_1"},
    ],
)
def test_a_signed_body_that_is_no_event_is_refused(body: Any) -> None:
    with pytest.raises(WebhookRefused, match="no event"):
        webhook_parse(*signed(body), SECRET)


def test_a_body_that_is_no_text_is_refused() -> None:
    raw = b"\xff\xfe"
    with pytest.raises(WebhookRefused, match="UTF-8"):
        webhook_parse(raw, sign(raw, SECRET, int(time.time())), SECRET)


def test_what_the_stand_in_sends_is_verified_and_read(own_standin: Handle) -> None:
    with receiving() as receiver:
        receiver.subscribe(own_standin)
        customer, (_, name) = own_standin.customer(), own_standin.meter()
        attach = "/v1/payment_methods/pm_card_visa/attach"
        method = own_standin.call("POST", attach, {"customer": customer}).json
        fields = {"event_name": name, "payload[value]": "1", "payload[stripe_customer_id]": "cus"}
        own_standin.call("POST", "/v1/billing/meter_events", fields)
        own_standin.control("POST", "tick")
        first, second = receiver.wait(2)
        assert first.event.type == "payment_method.attached"
        assert first.event.object_id == method["id"]
        assert first.event.data["customer"] == customer
        assert second.event.type == "v1.billing.meter.error_report_triggered"
        assert second.event.is_thin
        assert "data" not in json.loads(second.body)
