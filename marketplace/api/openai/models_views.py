"""Models: what the caller may call, by vendor/name."""

from typing import Any, ClassVar

from rest_framework.request import Request
from rest_framework.response import Response

from marketplace.accounts.models import Scope
from marketplace.api.auth import Scopes, caller_of
from marketplace.api.doors import DoorView
from marketplace.catalog import selectors
from marketplace.catalog.models import Model
from marketplace.core.errors import NotAllowed, NotFound

_READ: Scopes = {"GET": (Scope.READ, Scope.RUN), "DELETE": (Scope.READ, Scope.RUN)}
_MOST = 1000


def model_json(row: Model) -> dict[str, Any]:
    """Return a model; its id is what a call names."""
    return {
        "id": row.ref,
        "object": "model",
        "created": int(row.created_at.timestamp()),
        "owned_by": row.org.slug,
    }


class ModelList(DoorView):
    """What may be called."""

    scopes: ClassVar[Scopes] = _READ

    def get(self, request: Request) -> Response:
        """List public models and the caller's own, newest first, as far as the key may run them."""
        caller = caller_of(request)
        allowed = caller.key.allowed_models
        rows = selectors.models_callable(caller.org)[:_MOST]
        shown = [model_json(row) for row in rows if not allowed or row.ref in allowed]
        return Response({"object": "list", "data": shown})


class ModelDetail(DoorView):
    """One model."""

    scopes: ClassVar[Scopes] = _READ

    def get(self, request: Request, vendor: str, name: str) -> Response:
        """Return a model that can be called."""
        org = caller_of(request).org
        row = selectors.model_get(vendor=vendor, name=name, org=org)
        version = selectors.listed_version(row, org)
        if version is None:
            raise NotFound(f"No version of {row.ref} can be called.")
        end = selectors.retirement_of(version)
        more = {"shutdown_date": end.ends_at.date().isoformat()} if end else {}
        return Response(model_json(row) | more)

    def delete(self, request: Request, vendor: str, name: str) -> Response:
        """Refuse: a listing is ended by its vendor, with notice to who calls it."""
        row = selectors.model_get(vendor=vendor, name=name, org=caller_of(request).org)
        raise NotAllowed(
            f"{row.ref} is not deleted here: its vendor ends versions on the vendor's pages.",
            code="models_are_listings",
        )
