"""Authentication by API key and authorisation by scope."""

from typing import TYPE_CHECKING

from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from marketplace.accounts.models import ApiKey, Organisation, Scope
from marketplace.accounts.selectors import api_key_authenticate
from marketplace.core.errors import NotAllowed, NotAuthenticated

if TYPE_CHECKING:  # DRF's views import this module through the settings
    from rest_framework.views import APIView

_SCHEMES = {b"bearer", b"key"}


class Caller:
    """Who calls: an API key and its organisation. Stands where DRF expects a user."""

    is_authenticated = True

    def __init__(self, key: ApiKey) -> None:
        self.key = key
        self.org: Organisation = key.org
        self.pk = key.pk

    def __str__(self) -> str:
        return f"key {self.key.prefix}"


class ApiKeyAuthentication(BaseAuthentication):
    """`Authorization: Bearer mk_…`, or `Key mk_…` as some clients send it."""

    def authenticate(self, request: Request) -> tuple[Caller, ApiKey] | None:
        """Return the caller, or None without a header. Raises NotAuthenticated for a bad key."""
        parts = get_authorization_header(request).split()
        if not parts:
            return None
        if len(parts) != 2 or parts[0].lower() not in _SCHEMES:
            raise NotAuthenticated("Send the header `Authorization: Bearer <your key>`.")
        key = api_key_authenticate(parts[1].decode("latin-1"))
        return Caller(key), key

    def authenticate_header(self, request: Request) -> str:
        """Name the scheme for the 401 answer."""
        return 'Bearer realm="mercato"'


class HasScope(BasePermission):
    """Requires the scope that the view names for the method; default `read`."""

    def has_permission(self, request: Request, view: "APIView") -> bool:
        """Raise NotAuthenticated without a key, NotAllowed without the scope."""
        caller = request.user
        if not isinstance(caller, Caller):
            raise NotAuthenticated("Send the header `Authorization: Bearer <your key>`.")
        scopes: dict[str, str] = getattr(view, "scopes", {})
        needed = scopes.get(request.method or "", Scope.READ)
        if needed not in caller.key.scopes:
            raise NotAllowed(f"This key lacks the scope {needed!r}.", code="scope_missing")
        return True


class PublicRead(HasScope):
    """Lets visitors read; a key that is sent must still be a good one."""

    def has_permission(self, request: Request, view: "APIView") -> bool:
        """Allow visitors."""
        return True if request.user is None else super().has_permission(request, view)


def org_of(request: Request) -> Organisation | None:
    """Return the caller's organisation, or None for a visitor."""
    caller = request.user
    return caller.org if isinstance(caller, Caller) else None


def caller_of(request: Request) -> Caller:
    """Return the caller of a view that requires one."""
    caller = request.user
    if not isinstance(caller, Caller):
        raise NotAuthenticated("Send the header `Authorization: Bearer <your key>`.")
    return caller
