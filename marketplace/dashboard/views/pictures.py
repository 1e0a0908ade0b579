"""Serves sample outputs at addresses that caches may keep for ever."""

import uuid

from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import redirect
from django.views.decorators.http import require_safe

from marketplace.catalog.samples import sample_get
from marketplace.core.storage import LocalStorage, storage
from marketplace.core.views import stored
from marketplace.dashboard.access import answers

_LINK_S = 86_400


@answers
@require_safe
def sample(request: HttpRequest, sample_id: uuid.UUID, ending: str) -> HttpResponseBase:
    """Answer a sample's bytes, or where S3 has them; a draft's to its vendor and staff only."""
    found, is_public = sample_get(
        sample_id=sample_id,
        org=getattr(request, "org", None) or None,
        is_staff=bool(getattr(request.user, "is_staff", False)),
    )
    store = storage()
    if isinstance(store, LocalStorage):
        kept = "public, max-age=31536000, immutable" if is_public else "private, no-store"
        return stored(request, store, found.key, found.content_type, kept)
    response = redirect(store.signed_get(found.key, found.content_type, _LINK_S))
    # Kept for less long than the link that it leads to holds.
    response["Cache-Control"] = (
        f"public, max-age={_LINK_S // 2}" if is_public else "private, no-store"
    )
    return response
