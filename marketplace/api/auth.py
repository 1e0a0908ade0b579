"""Authentication by API key and authorisation by scope."""

from typing import TYPE_CHECKING, Any

from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from marketplace.accounts import audit, tokens
from marketplace.accounts.models import ApiKey, Organisation, Scope
from marketplace.accounts.selectors import api_key_authenticate
from marketplace.accounts.services import key_unlimited_require
from marketplace.api.throttling import FailureThrottle
from marketplace.core import limits
from marketplace.core.errors import NotAllowed, NotAuthenticated

if TYPE_CHECKING:  # DRF's views import this module through the settings
    from rest_framework.views import APIView

Scopes = dict[str, tuple[Scope, ...]]
"""Method to the scopes of which a key needs one."""

_SCHEMES = {b"bearer", b"key"}


def well_formed_key(header: bytes) -> bool:
    """Tell whether an Authorization header has what could be a key of ours; asks no database."""
    parts = header.split()
    if len(parts) != 2 or parts[0].lower() not in _SCHEMES:
        return False
    return tokens.is_well_formed(parts[1].decode("latin-1"))


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
        """Return the caller, or None without a header.

        Raises NotAuthenticated for a bad key, TooManyRequests after too many from one address.
        """
        parts = get_authorization_header(request).split()
        if not parts:
            return None
        if len(parts) != 2 or parts[0].lower() not in _SCHEMES:
            raise NotAuthenticated("Send the header `Authorization: Bearer <your key>`.")
        throttle = FailureThrottle()
        throttle.check(request)
        try:
            key = api_key_authenticate(parts[1].decode("latin-1"))
        except NotAuthenticated:
            throttle.failed(request)
            raise
        audit.name_key(key)
        return Caller(key), key

    def authenticate_header(self, request: Request) -> str:
        """Name the scheme for the 401 answer."""
        return 'Bearer realm="mercato"'


class HasScope(BasePermission):
    """Requires one of the scopes that the view names for the method; default `read`.

    A view answers HEAD by its GET, so that needs what GET does.
    """

    def has_permission(self, request: Request, view: "APIView") -> bool:
        """Raise NotAuthenticated without a key, NotAllowed without the scope."""
        caller = request.user
        if not isinstance(caller, Caller):
            raise NotAuthenticated("Send the header `Authorization: Bearer <your key>`.")
        scopes: dict[str, tuple[Scope, ...]] = getattr(view, "scopes", {})
        method = "GET" if request.method == "HEAD" else request.method or ""
        accepted = scopes.get(method, (Scope.READ,))
        if not set(accepted) & set(caller.key.scopes):
            names = " or ".join(accepted)
            raise NotAllowed(f"This key lacks the scope {names}.", code="scope_missing")
        return True


class PublicRead(BasePermission):
    """Lets everybody read; a key that is sent must still be a good one."""

    def has_permission(self, request: Request, view: "APIView") -> bool:
        """Allow everybody."""
        return True


def org_of(request: Request) -> Organisation | None:
    """Return the caller's organisation, or None for a visitor."""
    caller: Any = request.user
    return caller.org if isinstance(caller, Caller) else None


def caller_of(request: Request) -> Caller:
    """Return the caller of a view that requires one."""
    caller = request.user
    if not isinstance(caller, Caller):
        raise NotAuthenticated("Send the header `Authorization: Bearer <your key>`.")
    return caller


def caller_heavy(request: Request) -> Caller:
    """Return the caller of a view that costs much, counted by organisation.

    As `caller_unlimited`; raises TooManyRequests too.
    """
    caller = caller_unlimited(request)
    limits.heavy(caller.org.pk)
    return caller


def caller_unlimited(request: Request) -> Caller:
    """Return the caller of a view about money of the whole organisation.

    Raises NotAllowed for a key with a project or a budget.
    """
    caller = caller_of(request)
    key_unlimited_require(caller.key, "see or change the money of the whole organisation")
    return caller
