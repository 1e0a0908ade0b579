"""Tells a developer's server how a job ended. Sending is `marketplace.core.webhooks`' part.

A job that came through the door of another API is told as that API tells it: the door registers
what that is.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.conf import settings

from marketplace.accounts.events import state_for
from marketplace.accounts.webhook_models import WebhookEndpoint
from marketplace.core.ids import derived_id
from marketplace.core.webhooks import payload_of
from marketplace.jobs.models import Job, WebhookDelivery

START = "start"


@dataclass(frozen=True, slots=True)
class Form:
    """How a door tells: the body of an event, and the event that a job's end is, "" for none.

    `ended` gets the job and the events that the caller asked for. One whose name holds START is
    told when a worker takes the job. `headers` gets the row, the body and the time, and returns the
    headers that show it to be ours; without it they are Standard Webhooks'.
    """

    body: Callable[[Job], dict[str, Any]]
    ended: Callable[[Job, set[str]], str]
    headers: Callable[[WebhookDelivery, bytes, datetime], dict[str, str]] | None = None


_forms: dict[str, Form] = {}


def form_register(door: str, form: Form) -> None:
    """Have jobs of `door` told in `form`. Called when Django starts."""
    _forms[door] = form


def form_of(job: Job) -> Form | None:
    """Return how the door of a job tells, None for our own way."""
    return _forms.get(job.door)


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


def _row(job: Job, event: str, payload: dict[str, Any], **more: Any) -> WebhookDelivery:
    """Return an event for the address that the caller gave, unless `more` says another."""
    given = {"id": derived_id("webhook", job.pk, event), "url": job.webhook_url, **more}
    return WebhookDelivery(org_id=job.org_id, job=job, event=event, payload=payload, **given)


def _endpoint_row(
    job: Job, event: str, payload: dict[str, Any], endpoint: WebhookEndpoint
) -> WebhookDelivery:
    return _row(
        job,
        event,
        payload,
        id=derived_id("webhook", job.pk, event, endpoint.pk),
        url=endpoint.url,
        endpoint=endpoint,
        **state_for(endpoint),
    )


def _write(rows: list[WebhookDelivery]) -> None:
    if rows:
        # An attempt that begins again is no second start.
        WebhookDelivery.objects.bulk_create(rows, ignore_conflicts=True)


def _own(job: Job) -> tuple[str, dict[str, Any]]:
    """Return the event and the body for the address that the caller gave, or "" for none."""
    form = form_of(job)
    if not job.webhook_url:
        return "", {}
    if form is None:
        event = f"job.{job.status}"
        return event, payload_of(event, _data(job))
    event = form.ended(job, _asked(job))
    return event, form.body(job) if event else {}


def delivery_create(job: Job) -> None:
    """Write the deliveries of an ended job, in the transaction that ends it.

    They go to the address that its caller gave and to the organisation's endpoints; to one that
    is both, once, as the caller gave it: so nothing that becomes of the endpoint takes it away.
    An endpoint that is off misses the event all the same, to be sent when it is on again.
    """
    rows: list[WebhookDelivery] = []
    event = f"job.{job.status}"
    endpoints = {row.url: row for row in WebhookEndpoint.objects.for_org(job.org_id).told_of(event)}
    own, body = _own(job)
    if own:
        rows.append(_row(job, own, body))
        if (same := endpoints.get(job.webhook_url)) and same.is_on:
            del endpoints[same.url]
    if endpoints:
        payload = payload_of(event, _data(job))
        rows += [_endpoint_row(job, event, payload, row) for row in endpoints.values()]
    _write(rows)


def start_tell(job_id: str) -> None:
    """Write the delivery of a job's start, where its door tells that and its caller asked.

    In the transaction that notes it: a report that comes again finds a start that was noted, and
    would not tell it.
    """
    rows = Job.objects.select_related("version__model__org", "org")
    job = rows.filter(pk=job_id, door__in=_forms).exclude(webhook_url="").first()
    if job is not None and START in _asked(job):
        _write([_row(job, START, _forms[job.door].body(job))])


def deliveries_send(budget_s: float = 30.0) -> int:
    """Send what is due. Returns how many were delivered."""
    return WebhookDelivery.send_due(budget_s)
