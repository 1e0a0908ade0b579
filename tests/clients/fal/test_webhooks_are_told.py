"""Webhooks in fal's form, checked as its receivers check them: Ed25519 by our JWKS."""

import base64
import hashlib
import json
import time

import httpx
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from marketplace.jobs import retention, webhooks
from marketplace.jobs.models import Job, WebhookDelivery
from tests.cast import PIXEL
from tests.clients.conftest import failing, working

GIVEN = {"prompt": "a red circle"}
NAMES = ["request-id", "user-id", "timestamp"]


def jwks():
    return httpx.get("https://rest.fal.ai/.well-known/jwks.json").json()["keys"]


def check(headers, body):
    """Do what a receiver does; raises unless one of our keys has signed."""
    told = [headers[f"x-fal-webhook-{name}"] for name in NAMES]
    assert abs(int(told[2]) - time.time()) < 300
    message = "\n".join([*told, hashlib.sha256(body).hexdigest()]).encode()
    signature = bytes.fromhex(headers["x-fal-webhook-signature"])
    for key in jwks():
        raw = base64.urlsafe_b64decode(key["x"] + "=" * (-len(key["x"]) % 4))
        try:
            Ed25519PublicKey.from_public_bytes(raw).verify(signature, message)
        except InvalidSignature:
            continue
        return
    raise InvalidSignature


def told_of(market, client, receiver, does=None):
    handle = client.submit(market.ref, GIVEN, webhook_url=receiver.url)
    with working(does) if does else working():
        while not Job.objects.get(pk=handle.request_id).is_ended:
            time.sleep(0.02)
    webhooks.deliveries_send()
    ((headers, body),) = receiver.seen
    return handle.request_id, headers, body


def test_the_end_is_told_once_and_signed(market, client, receiver):
    request_id, headers, body = told_of(market, client, receiver)
    check(headers, body)
    told = json.loads(body)
    assert (told["request_id"], told["gateway_request_id"]) == (request_id, request_id)
    assert (told["status"], told["payload"]["seed"]) == ("OK", 7)
    assert httpx.get(told["payload"]["images"][0]["url"]).content == PIXEL
    assert headers["x-fal-webhook-request-id"] == request_id
    assert headers["x-fal-webhook-user-id"] == str(market.developer.pk)
    assert "webhook-signature" not in headers
    with pytest.raises(InvalidSignature):
        check(headers, body + b" ")
    with pytest.raises(InvalidSignature):
        check({**headers, "x-fal-webhook-user-id": str(market.stranger.pk)}, body)


def test_a_fault_is_told(market, client, receiver):
    _, headers, body = told_of(market, client, receiver, failing())
    check(headers, body)
    told = json.loads(body)
    assert (told["status"], told["error"]) == ("ERROR", "The model failed on this input.")
    assert told["payload"]["error_type"] == "engine_error"


def test_keys_of_before_stay_for_a_while(market, client, receiver, settings):
    _, headers, body = told_of(market, client, receiver)
    before = jwks()
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "another" * 10
    now = jwks()
    assert now[1:] == before
    assert now[0] != before[0]
    assert {key["kty"] for key in now} == {"OKP"}
    check(headers, body)
    settings.SECRET_KEY_FALLBACKS = []
    with pytest.raises(InvalidSignature):
        check(headers, body)


def test_purged_data_leaves_the_deliveries(market, client, receiver):
    told_of(market, client, receiver)
    retention.job_purge(org=market.developer, job=Job.objects.select_related("version").get())
    kept = WebhookDelivery.objects.get().payload
    assert (kept["payload"], kept["status"]) == (None, "OK")
    assert "red circle" not in json.dumps(kept)


def test_other_doors_sign_as_they_did(market, receiver):
    with working():
        httpx.post(
            f"{market.url}/v1/jobs",
            json={"model": market.ref, "input": GIVEN, "webhook_url": receiver.url},
            headers={"Authorization": f"Bearer {market.secret}", "Prefer": "wait=20"},
            timeout=30,
        )
    webhooks.deliveries_send()
    ((headers, _),) = receiver.seen
    assert headers["webhook-signature"].startswith("v1,")
    assert "x-fal-webhook-signature" not in headers
