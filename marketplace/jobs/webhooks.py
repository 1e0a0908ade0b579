"""Tells a developer's server how a job ended. Sending is `marketplace.core.webhooks`' part.

A job that came through the door of another API is told as that API tells it: the door registers
what that is.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.conf import settings

from marketplace.core.ids import derived_id
from marketplace.core.webhooks import payload_of
from marketplace.jobs.models import Job, WebhookDelivery

START = "start"


@dataclass(frozen=True, slots=True)
class Form:
    """How a door tells: the body of an event, and the event that a job's end is, "" for none.

    `ended` gets the job and the events that the caller asked for. One whose name holds START is
    told when a worker takes the job.
    """

    body: Callable[[Job], dict[str, Any]]
    ended: Callable[[Job, set[str]], str]


_forms: dict[str, Form] = {}


def form_register(door: str, form: Form) -> None:
    """Have jobs of `door` told in `form`. Called when Django starts."""
    _forms[door] = form


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


def _asked(job: Job) -> set[str]:
    return set(filter(None, job.webhook_events.split(",")))


def _write(job: Job, event: str, payload: dict[str, Any]) -> None:
    WebhookDelivery.objects.bulk_create(
        [
            WebhookDelivery(
                id=derived_id("webhook", job.pk, event),
                org_id=job.org_id,
                job=job,
                event=event,
                url=job.webhook_url,
                payload=payload,
            )
        ],
        ignore_conflicts=True,  # an attempt that begins again is no second start
    )


def delivery_create(job: Job) -> None:
    """Write the delivery of an ended job, in the transaction that ends it."""
    if not job.webhook_url:
        return
    form = _forms.get(job.door)
    if form is None:
        event = f"job.{job.status}"
        _write(job, event, payload_of(event, _data(job)))
    elif event := form.ended(job, _asked(job)):
        _write(job, event, form.body(job))


def start_tell(job_id: str) -> None:
    """Write the delivery of a job's start, where its door tells that and its caller asked."""
    rows = Job.objects.select_related("version__model__org", "org")
    job = rows.filter(pk=job_id, door__in=_forms).exclude(webhook_url="").first()
    if job is not None and START in _asked(job):
        _write(job, START, _forms[job.door].body(job))


def deliveries_send(budget_s: float = 30.0) -> int:
    """Send what is due. Returns how many were delivered."""
    return WebhookDelivery.send_due(budget_s)
