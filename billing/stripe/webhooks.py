"""Webhooks in: proof that Stripe sent it, and one form for both of Stripe's kinds of events."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import stripe

from billing.stripe.errors import WebhookRefused
from billing.stripe.records import epoch

SIGNATURE_HEADER = "Stripe-Signature"
TOLERANCE_S = 300


@dataclass(frozen=True, slots=True)
class StripeEvent:
    """A verified event. Store `id` once; refetch the object rather than trust the order.

    A *snapshot* event (v1) carries its object as it was in `data`; a *thin* one (v2) only names
    it. `object_type` is Stripe's, such as `invoice` or `v2.core.account`. `account` is the
    connected account that it is about, empty for the platform's own. `created` is in epoch
    seconds.
    """

    id: str
    type: str
    created: int
    is_thin: bool
    object_type: str
    object_id: str
    account: str
    livemode: bool
    api_version: str
    data: dict[str, Any] = field(default_factory=dict)
    previous: dict[str, Any] = field(default_factory=dict)

    @property
    def metadata(self) -> dict[str, str]:
        """The metadata of a snapshot's object: `org_id`, `mercato_id` where we set them."""
        found: dict[str, str] = self.data.get("metadata") or {}
        return found


def webhook_parse(
    payload: bytes, header: str | None, secret: str | Sequence[str], tolerance_s: int = TOLERANCE_S
) -> StripeEvent:
    """Return the event in the body of a webhook, verified against its `Stripe-Signature`.

    Several secrets may be given: Stripe has one per destination, and two while one is changed.
    Raises WebhookRefused when no secret fits, the signature is older than `tolerance_s`
    seconds, or the body is no event.
    """
    secrets = [secret] if isinstance(secret, str) else list(secret)
    secrets = [text for text in secrets if text.strip()]
    if not secrets:
        raise WebhookRefused("no webhook secret is configured")
    try:
        text = payload.decode("utf-8")
    except UnicodeDecodeError:
        raise WebhookRefused("the body is not UTF-8") from None
    failure = ""
    for each in secrets:
        try:
            stripe.WebhookSignature.verify_header(text, header, each, tolerance_s)
            return _read(text)
        except stripe.SignatureVerificationError as error:
            failure = failure or (error.user_message or "the signature is wrong")
    raise WebhookRefused(failure)


def _read(text: str) -> StripeEvent:
    try:
        raw = json.loads(text)
        kind = raw["object"]
        if kind == "event":
            return _snapshot(raw)
        if kind == "v2.core.event":
            return _thin(raw)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WebhookRefused(f"the body is no event: {error!r}") from None
    raise WebhookRefused(f"the body is no event but {str(kind)[:40]!r}")


def _snapshot(raw: dict[str, Any]) -> StripeEvent:
    obj = raw["data"]["object"]
    return StripeEvent(
        id=str(raw["id"]),
        type=str(raw["type"]),
        created=int(raw["created"]),
        is_thin=False,
        object_type=str(obj["object"]),
        object_id=str(obj.get("id") or ""),
        account=str(raw.get("account") or ""),
        livemode=bool(raw["livemode"]),
        api_version=str(raw.get("api_version") or ""),
        data=obj,
        previous=raw["data"].get("previous_attributes") or {},
    )


def _thin(raw: dict[str, Any]) -> StripeEvent:
    related = raw.get("related_object") or {}
    return StripeEvent(
        id=str(raw["id"]),
        type=str(raw["type"]),
        created=epoch(str(raw["created"])),
        is_thin=True,
        object_type=str(related.get("type") or ""),
        object_id=str(related.get("id") or ""),
        account=str(raw.get("context") or ""),
        livemode=bool(raw["livemode"]),
        api_version="",
    )
