"""Tells a developer's server how a job ended. Sending is `marketplace.core.webhooks`' part."""

from typing import Any

from django.conf import settings

from marketplace.core.ids import derived_id
from marketplace.core.webhooks import payload_of
from marketplace.jobs.models import Job, WebhookDelivery


def _data(job: Job) -> dict[str, Any]:
    error = {"code": job.error_code, "message": job.error_message} if job.error_code else None
    return {
        "id": str(job.pk),
        "status": job.status,
        "model": str(job.version),
        "quote_nano_usd": job.quote_nano,
        "charge_nano_usd": job.charge_nano,
        "result": job.result,
        "error": error,
        "url": f"{settings.PUBLIC_URL}/v1/jobs/{job.pk}",
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
        payload=payload_of(event, _data(job)),
    )


def deliveries_send(budget_s: float = 30.0) -> int:
    """Send what is due. Returns how many were delivered."""
    return WebhookDelivery.send_due(budget_s)
