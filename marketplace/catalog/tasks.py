"""Celery entry points of the catalogue."""

import uuid

from celery import shared_task

from inference.protocol import QUEUE_OUTBOUND
from marketplace.catalog import upload_sweep, uploads


@shared_task(name="catalog.check_upload", queue=QUEUE_OUTBOUND, max_retries=None)
def check_upload(upload_id: str) -> None:
    """Check an upload of weights: minutes for a large one, so apart from what settles jobs."""
    uploads.upload_check(uuid.UUID(upload_id))


@shared_task(name="catalog.check_uploads", queue=QUEUE_OUTBOUND)
def check_uploads() -> None:
    """Check an upload whose turn has come, or whose check was lost with its worker."""
    upload_sweep.check_next()


@shared_task(name="catalog.expire_uploads", queue=QUEUE_OUTBOUND)
def expire_uploads() -> None:
    """Remove uploads that nobody finished or uses."""
    upload_sweep.expire()
