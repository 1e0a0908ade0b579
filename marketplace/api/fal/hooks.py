"""What a webhook tells of a call that came through this door, and how it is signed."""

import hashlib
from datetime import datetime
from typing import Any

from marketplace.api.fal import present, signing
from marketplace.api.fal.door import detail
from marketplace.jobs.models import Job, WebhookDelivery
from marketplace.jobs.webhooks import Form, form_register


def _body(job: Job) -> dict[str, Any]:
    """Return the result as `payload`, or the body of the error."""
    error = present.failure(job)
    told: dict[str, Any] = {"request_id": str(job.pk), "gateway_request_id": str(job.pk)}
    if error is None:
        return {**told, "status": "OK", "payload": present.result(job)}
    payload = {"detail": detail(error) or error.message, "error_type": error.code}
    return {**told, "status": "ERROR", "error": error.message, "payload": payload}


def _headers(row: WebhookDelivery, body: bytes, moment: datetime) -> dict[str, str]:
    """Return what a receiver checks against our JWKS: who, when, and a signature of both."""
    told = {
        "X-Fal-Webhook-Request-Id": str(row.job_id),
        "X-Fal-Webhook-User-Id": str(row.org_id),
        "X-Fal-Webhook-Timestamp": str(int(moment.timestamp())),
    }
    signed = "\n".join([*told.values(), hashlib.sha256(body).hexdigest()])
    return {**told, "X-Fal-Webhook-Signature": signing.sign(signed.encode()).hex()}


form_register(
    present.DOOR, Form(body=_body, ended=lambda job, asked: "completed", headers=_headers)
)
