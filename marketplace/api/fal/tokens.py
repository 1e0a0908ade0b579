"""Short-lived tokens that stand for a key: to call some models from a browser, and to upload.

They are signed, expire, and are good for as long as their key is.
"""

from typing import Any

from django.core import signing
from rest_framework.request import Request

from marketplace.accounts import audit
from marketplace.accounts.models import ApiKey
from marketplace.accounts.selectors import api_key_of_id
from marketplace.api.auth import ApiKeyAuthentication, Caller
from marketplace.catalog import selectors as catalog
from marketplace.core.errors import NotAllowed, NotAuthenticated

RUN_MAX_S = 3600
UPLOAD_S = 900
KEY_OF_SCOPE = "mercato.fal.key"
"""In the scope of a request: the id of the key whose it is, where something we signed says so.
A socket's requests have it, and our own for an answer that was held. Nobody else can set it."""
_RUN, _UPLOAD = "mercato.fal.run", "mercato.fal.upload"


def run_token(key: ApiKey, apps: list[str], ttl_s: int) -> str:
    """Return what allows to call `apps` (`owner/alias`; none: all) for `ttl_s`.

    An `alias` alone allows nothing: it says that nobody knew whose was meant.
    """
    claims = {"key": str(key.pk), "apps": apps, "ttl": ttl_s}
    return signing.dumps(claims, salt=_RUN, compress=True)


def upload_token(key: ApiKey) -> str:
    """Return what allows to upload files of the key's organisation for UPLOAD_S seconds."""
    return signing.dumps({"key": str(key.pk), "ttl": UPLOAD_S}, salt=_UPLOAD)


def _caller(key_id: str) -> tuple[Caller, ApiKey]:
    key = api_key_of_id(key_id)
    audit.name_key(key)
    return Caller(key), key


def _claims(token: str, salt: str) -> dict[str, Any]:
    try:
        claims: dict[str, Any] = signing.loads(token, salt=salt)
        signing.loads(token, salt=salt, max_age=claims["ttl"])
    except (signing.BadSignature, KeyError, TypeError) as error:
        raise NotAuthenticated("This token is not valid, or no longer.") from error
    return claims


def is_upload_token(token: str) -> bool:
    """Tell whether a token was made by us to upload, and lives; asks no database."""
    try:
        return bool(_claims(token, _UPLOAD))
    except NotAuthenticated:
        return False


class OwnAuthentication(ApiKeyAuthentication):
    """A key in the header, or who is known already where a request of ours goes on as another."""

    def authenticate(self, request: Request) -> tuple[Caller, ApiKey] | None:
        """Return the caller. Raises NotAuthenticated."""
        known = getattr(request._request, "scope", {}).get(KEY_OF_SCOPE)
        return _caller(known) if known is not None else super().authenticate(request)


class RunAuthentication(OwnAuthentication):
    """As that, or a token in the address, since a browser may send no header there."""

    def authenticate(self, request: Request) -> tuple[Caller, ApiKey] | None:
        """Return the caller. Raises NotAuthenticated, or NotAllowed for another model."""
        scope: dict[str, Any] = getattr(request._request, "scope", {})
        token = request.query_params.get("fal_jwt_token")
        if token is None or KEY_OF_SCOPE in scope:
            return super().authenticate(request)
        claims = _claims(token, _RUN)
        named = request.parser_context["kwargs"]
        caller, key = _caller(claims["key"])
        if claims["apps"]:
            _require_app(caller, claims["apps"], named.get("owner", ""), named.get("alias", ""))
        scope[KEY_OF_SCOPE] = claims["key"]  # for the answer that waits for the call's end
        return caller, key


def _require_app(caller: Caller, apps: list[str], owner: str, alias: str) -> None:
    """Raise NotAllowed unless a token for `apps` is good for a model, or NotFound without one."""
    name = alias.partition(":")[0]
    ref = f"{owner}/{name}"
    if ref in apps:
        return
    if name not in apps:
        raise NotAllowed("This token is for other models.", code="model_not_allowed")
    catalog.version_runnable(ref=ref, org=caller.org)
    raise NotAllowed(
        f"This token was asked for {name} alone, and several vendors have a model of that name, or "
        f'none had one then. Ask for a token with "allowed_apps": ["{ref}"], or call {ref} once '
        "with a key.",
        code="model_not_named",
    )


class UploadAuthentication(ApiKeyAuthentication):
    """A key, or a token to upload, in the header."""

    def authenticate(self, request: Request) -> tuple[Caller, ApiKey] | None:
        """Return the caller. Raises NotAuthenticated."""
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer" and ":" in token:  # which no key has
            return _caller(_claims(token.strip(), _UPLOAD)["key"])
        return super().authenticate(request)
