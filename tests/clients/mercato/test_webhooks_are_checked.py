"""`verify_webhook` takes what the market signed, and nothing else."""

import json
import time

import pytest

from marketplace.core.clock import now
from marketplace.jobs.models import Job, WebhookDelivery
from mercato import WebhookRefused, verify_webhook
from tests.clients.conftest import working


@pytest.fixture
def sent(market, make_client, receiver):
    """What the market sent, and the secret that it was signed with."""
    client = make_client()
    with working():
        client.run(market.ref, {"prompt": "a red circle"}, webhook_url=receiver.url)
    row = WebhookDelivery.objects.get()
    WebhookDelivery.objects.update(next_attempt_at=now())
    assert WebhookDelivery.send_due() == 1
    ((headers, body),) = receiver.seen
    return row.secrets[0], headers, body


def test_what_the_market_sends_is_taken(sent):
    event = verify_webhook(*sent)
    assert event["type"] == "job.succeeded"
    assert event["data"]["id"] == str(Job.objects.get().pk)


def test_anything_else_is_refused(sent):
    secret, headers, body = sent
    other = secret[:-6] + ("AAAAA=" if secret.endswith("=") else "AAAAAA")
    changed = json.dumps(json.loads(body) | {"type": "job.failed"}).encode()
    later = str(int(headers["webhook-timestamp"]) + 1)
    for given in (
        (other, headers, body),
        ("whsec_no!", headers, body),
        (secret, headers, changed),
        (secret, {**headers, "webhook-id": "x"}, body),
        (secret, {**headers, "webhook-timestamp": later}, body),
        (secret, {**headers, "webhook-timestamp": "soon"}, body),
        (secret, {**headers, "webhook-signature": "v2,x v1,"}, body),
        (secret, {}, body),
    ):
        with pytest.raises(WebhookRefused):
            verify_webhook(*given)


def test_an_old_one_is_refused_and_one_of_two_signatures_is_enough(sent):
    secret, headers, body = sent
    with pytest.raises(WebhookRefused, match="too old"):
        verify_webhook(secret, headers, body, now=time.time() + 301)
    both = {**headers, "webhook-signature": "v1,AAAA " + headers["webhook-signature"]}
    named = {name.title(): value for name, value in both.items()}
    assert verify_webhook(secret, named, body)
