"""Celery entry points: what GPU workers report, and what beat repeats."""

import hmac
from collections.abc import Callable
from typing import Any, TypeVar

import structlog
from botocore.exceptions import BotoCoreError, ClientError
from celery import shared_task
from django.db import InterfaceError, OperationalError

from inference import protocol
from marketplace.jobs import (
    dispatch,
    endpoint_mail,
    retention,
    services,
    standings,
    sweeper,
    webhooks,
)

log = structlog.get_logger("mercato.jobs.tasks")
_AWAY = (OperationalError, InterfaceError, BotoCoreError, ClientError, OSError)
"""What is raised while the database or the store cannot be reached."""
M = TypeVar("M", protocol.JobStarted, protocol.JobFinished, protocol.JobFailed)


def _report(kind: type[M], data: dict[str, Any], apply: Callable[[M], bool]) -> None:
    """Apply a worker's report if it is well-formed and shows the attempt's token."""
    try:
        message = kind.from_dict(data)
    except ValueError as error:
        log.error("bad report", kind=kind.__name__, error=str(error))
        return
    expected = dispatch.attempt_token(message.job_id, message.attempt)
    if not hmac.compare_digest(message.token, expected):
        log.error("forged report", kind=kind.__name__, job_id=message.job_id)
        return
    with structlog.contextvars.bound_contextvars(
        trace_id=message.trace_id, job_id=message.job_id, attempt=message.attempt
    ):
        log.info(kind.__name__, worker_id=message.worker_id, applied=apply(message))


# Reports are never given up while something is away: retry for ever, at most every 10 s.
_FOR_EVER: dict[str, Any] = {
    "autoretry_for": _AWAY,
    "max_retries": None,
    "retry_backoff": 1,
    "retry_backoff_max": 10,
    "retry_jitter": True,
}


@shared_task(name=protocol.TASK_STARTED, **_FOR_EVER)
def started(data: dict[str, Any]) -> None:
    """Take a worker's word that an attempt runs."""
    _report(protocol.JobStarted, data, services.job_started)


@shared_task(name=protocol.TASK_FINISHED, **_FOR_EVER)
def finished(data: dict[str, Any]) -> None:
    """Take a worker's result and settle it."""
    _report(protocol.JobFinished, data, services.job_finished)


@shared_task(name=protocol.TASK_FAILED, **_FOR_EVER)
def failed(data: dict[str, Any]) -> None:
    """Take a worker's failure."""
    _report(protocol.JobFailed, data, services.job_failed)


@shared_task(name="jobs.sweep")
def sweep() -> None:
    """Repair lost messages, workers and time."""
    sweeper.sweep()


@shared_task(name="jobs.deliver_webhooks")
def deliver_webhooks() -> None:
    """Send due webhooks."""
    webhooks.deliveries_send()


@shared_task(name="jobs.mail_endpoints")
def mail_endpoints() -> None:
    """Write to those whose endpoints were switched off."""
    endpoint_mail.endpoints_mail()


@shared_task(name="jobs.expire_files")
def expire_files() -> None:
    """Delete stored objects whose time is up."""
    sweeper.files_expire()
    sweeper.links_expire()


@shared_task(name="jobs.refresh_standings")
def refresh_standings() -> None:
    """Measure what the gallery sorts by."""
    standings.standings_refresh()


@shared_task(name="jobs.purge")
def purge() -> None:
    """Blank the inputs of jobs whose time is up."""
    retention.jobs_purge()
