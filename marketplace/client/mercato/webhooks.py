"""Checks who sent an event: Standard Webhooks (standardwebhooks.com), with the stdlib alone."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from typing import Any

from mercato.errors import MercatoError

TOLERANCE_S = 300


class WebhookRefused(MercatoError):
    """An event that was not signed with the secret, or is too old."""


def verify_webhook(
    secret: str, headers: Mapping[str, str], body: bytes, *, now: float | None = None
) -> dict[str, Any]:
    """Return the event, if `body`, the bytes as they came, was signed with `secret` (`whsec_…`).

    Raises WebhookRefused for what was not, and for what was sent more than five minutes ago.
    """
    given = {name.lower(): value for name, value in headers.items()}
    try:
        event_id, sent_at = given["webhook-id"], given["webhook-timestamp"]
        signatures = given["webhook-signature"].split()
        age = (time.time() if now is None else now) - int(sent_at)
    except (KeyError, ValueError) as error:
        raise WebhookRefused("The headers webhook-* are missing or not valid.") from error
    try:
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except binascii.Error as error:
        raise WebhookRefused("The secret is not one of a webhook: whsec_….") from error
    signed = f"{event_id}.{sent_at}.".encode() + body
    expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest())
    kinds = [signature.partition(",") for signature in signatures]
    found = [
        hmac.compare_digest(expected, value.encode()) for kind, _, value in kinds if kind == "v1"
    ]
    if not any(found):
        raise WebhookRefused("The event was not signed with this secret.")
    if abs(age) > TOLERANCE_S:
        raise WebhookRefused("The event is too old: somebody may have sent it again.")
    event: dict[str, Any] = json.loads(body)
    return event
