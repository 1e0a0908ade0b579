"""Tells a developer's server how a job ended: Standard Webhooks, signed, retried, guarded.

Specification: standardwebhooks.com. The id is derived from job and event, so that a receiver
can drop repetitions.
"""

import json
from typing import Any

import structlog
from django.conf import settings
from standardwebhooks.webhooks import Webhook

from marketplace.core import http
from marketplace.core.clock import now
from marketplace.core.errors import MarketError
from marketplace.core.ids import derived_id
from marketplace.jobs.models import Job, WebhookDelivery

log = structlog.get_logger("mercato.jobs.webhooks")


def _payload(job: Job, event: str) -> dict[str, Any]:
    error = {"code": job.error_code, "message": job.error_message} if job.error_code else None
    return {
        "type": event,
        "timestamp": now().isoformat(),
        "data": {
            "id": str(job.pk),
            "status": job.status,
            "model": str(job.version),
            "quote_nano_usd": job.quote_nano,
            "charge_nano_usd": job.charge_nano,
            "result": job.result,
            "error": error,
            "url": f"{settings.PUBLIC_URL}/v1/jobs/{job.pk}",
        },
    }


def delivery_create(job: Job) -> None:
    """Write the delivery of an ended job, in the transaction that ends it."""
    if not job.webhook_url:
        return
    event = f"job.{job.status}"
    WebhookDelivery.objects.create(
        id=derived_id("webhook", job.pk, event),
        org_id=job.org_id,
        job=job,
        event=event,
        url=job.webhook_url,
        payload=_payload(job, event),
    )


def _send(row: WebhookDelivery) -> http.Answer:
    body = json.dumps(row.payload, separators=(",", ":"))
    moment = now()
    signature = Webhook(row.org.webhook_secret).sign(str(row.pk), moment, body)
    headers = {
        "Content-Type": "application/json",
        "webhook-id": str(row.pk),
        "webhook-timestamp": str(int(moment.timestamp())),
        "webhook-signature": signature,
    }
    return http.post(row.url, body.encode(), headers)


def deliveries_send(budget_s: float = 30.0) -> int:
    """Send what is due. Returns how many were delivered."""
    delivered = 0
    for row in WebhookDelivery.claim_while(budget_s, chunk=3):
        row.mark_sending()
        try:
            answer = _send(row)
        except MarketError as error:
            why, lasting = error.message, error.status == 422
        except Exception as error:  # one row must not stop the others
            log.exception("webhook not sent", delivery=str(row.pk))
            why, lasting = type(error).__name__, False
        else:
            WebhookDelivery.objects.filter(pk=row.pk).update(last_status=answer.status)
            if 200 <= answer.status < 300:
                row.mark_delivered()
                delivered += 1
                continue
            why, lasting = f"HTTP {answer.status}", answer.status == 410
        if lasting or row.is_exhausted:
            row.mark_failed(why)
        else:
            row.mark_retry(why)
        log.info("webhook not delivered", delivery=str(row.pk), why=why, attempt=row.attempts)
    return delivered
