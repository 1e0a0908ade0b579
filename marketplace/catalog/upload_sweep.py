"""Takes uploads of weights up again whose check was lost, and removes what nobody uses."""

from datetime import timedelta

import structlog
from django.db.models import Q

from marketplace.catalog import uploads
from marketplace.catalog.listing_models import ListingDraft, UploadState, WeightsUpload
from marketplace.catalog.models import Version
from marketplace.core.clock import now

log = structlog.get_logger("mercato.catalog.uploads")
_AT_ONCE = 20
_LINKS_ARE_DEAD = uploads.KEEP_OPEN + timedelta(seconds=uploads.LINK_S)


def check_next() -> bool:
    """Check the oldest upload that waits and that nobody checks. Returns whether there was one."""
    waiting = WeightsUpload.objects.filter(state=UploadState.CHECKING).order_by("created_at")
    free = waiting.filter(Q(lease_ends_at=None) | Q(lease_ends_at__lte=now())).first()
    if free is None or waiting.filter(lease_ends_at__gt=now()).exists():
        return False
    uploads.upload_check(free.pk)
    return True


def is_used(upload: WeightsUpload) -> bool:
    """Tell whether a version, or a listing under way, names the upload."""
    uri = uploads.upload_uri(upload)
    drafts = ListingDraft.objects.filter(org_id=upload.org_id, weights__uri=uri)
    return Version.objects.filter(weights_uri=uri).exists() or drafts.exists()


def expire() -> int:
    """Remove uploads that stayed open or unused too long, and parts that came too late.

    Returns how many uploads were touched.
    """
    moment, done = now(), 0
    rows = WeightsUpload.objects.order_by("created_at")
    stale = rows.filter(state=UploadState.OPEN, created_at__lt=moment - uploads.KEEP_OPEN)
    for upload in stale[:_AT_ONCE]:
        uploads.upload_drop(upload=upload)
        done += 1
    old = rows.filter(state=UploadState.READY, created_at__lt=moment - uploads.KEEP_UNUSED)
    for upload in old:
        if not is_used(upload):
            uploads.upload_remove(upload)
            done += 1
    ended = rows.exclude(state__in=(UploadState.OPEN, UploadState.CHECKING)).filter(swept_at=None)
    for upload in ended.filter(created_at__lt=moment - _LINKS_ARE_DEAD)[:_AT_ONCE]:
        uploads.upload_sweep(upload)
        done += 1
    if done:
        log.info("uploads expired", count=done)
    return done
