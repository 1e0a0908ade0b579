"""Celery entry points of the catalogue."""

import uuid

from celery import shared_task

from inference.protocol import QUEUE_OUTBOUND
from marketplace.catalog import uploads


@shared_task(name="catalog.check_upload", queue=QUEUE_OUTBOUND, max_retries=None)
def check_upload(upload_id: str) -> None:
    """Check an upload of weights: minutes for a large one, so apart from what settles jobs."""
    uploads.upload_check(uuid.UUID(upload_id))
