"""Serves sample outputs to who may see them now: a vendor may be suspended, a version end."""

import uuid

from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import redirect
from django.utils.cache import get_conditional_response
from django.views.decorators.http import require_safe

from marketplace.accounts.second_factor import has_second_factor
from marketplace.catalog.samples import sample_get
from marketplace.core.storage import LocalStorage, storage
from marketplace.core.views import stored
from marketplace.dashboard.access import answers

_KEPT_S = 300
_LINK_S = 2 * _KEPT_S


def _is_reviewer(request: HttpRequest) -> bool:
    """Tell whether this is staff who may look at versions, behind their second factor."""
    user = request.user
    allowed = user.is_authenticated and user.is_staff and user.has_perm("catalog.view_version")
    return allowed and has_second_factor(request)


@answers
@require_safe
def sample(request: HttpRequest, sample_id: uuid.UUID, ending: str) -> HttpResponseBase:
    """Answer a sample's bytes, or where S3 has them; a draft's to its vendor and staff only."""
    found, is_public = sample_get(
        sample_id=sample_id,
        org=getattr(request, "org", None) or None,
        is_staff=_is_reviewer(request),
    )
    kept = f"public, max-age={_KEPT_S}" if is_public else "private, no-store"
    etag = f'"{found.pk}"'  # an address never means other bytes
    unchanged = get_conditional_response(request, etag=etag) if is_public else None
    if unchanged is not None:
        unchanged["Cache-Control"] = kept
        return unchanged
    store = storage()
    if isinstance(store, LocalStorage):
        response = stored(request, store, found.key, found.content_type, kept)
        response["ETag"] = etag
        return response
    response = redirect(store.signed_get(found.key, found.content_type, _LINK_S))
    # Kept for less long than the link that it leads to holds.
    response["Cache-Control"] = kept
    return response
