"""An organisation's own server is told of events of its account: signed, once, retried."""

import json

import pytest
from standardwebhooks.webhooks import Webhook

from marketplace.accounts import events
from marketplace.accounts.endpoints import endpoint_create
from marketplace.accounts.webhook_models import AccountEvent
from marketplace.core.clock import now
from marketplace.core.errors import InvalidInput


@pytest.fixture
def org(cast, receiver):
    endpoint_create(org=cast.developer, url=receiver.url)
    return cast.developer


def test_an_event_is_told_once_with_a_good_signature(org, receiver):
    for is_new in (True, False):
        assert is_new is events.event_create(
            org=org, event="balance.low", source=7, data={"left_nano_usd": 5}
        )
    assert [events.events_send(), events.events_send()] == [1, 0]
    ((headers, body),) = receiver.seen
    assert Webhook(org.webhook_secret).verify(body, headers)
    told = json.loads(body)
    assert (told["type"], told["data"]) == ("balance.low", {"left_nano_usd": 5})


def test_a_refusal_is_tried_again_with_the_same_id(org, receiver):
    receiver.statuses = [503, 200]
    events.event_create(org=org, event="balance.low", source=7, data={})
    assert events.events_send() == 0
    AccountEvent.objects.update(next_attempt_at=now())
    assert events.events_send() == 1
    assert receiver.seen[0][0]["webhook-id"] == receiver.seen[1][0]["webhook-id"]


def test_without_an_address_there_is_nothing_to_send(cast):
    assert not events.event_create(org=cast.developer, event="balance.low", source=7, data={})
    assert not AccountEvent.objects.exists()


def test_an_address_that_is_none_is_refused(cast):
    with pytest.raises(InvalidInput) as refused:
        endpoint_create(org=cast.developer, url="ftp://example.org/hook")
    assert "url" in refused.value.fields
