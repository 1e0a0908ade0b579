"""What clients ask of fal's REST host: tokens, and where to send files."""

from datetime import UTC, timedelta
from typing import Any, ClassVar

from django.conf import settings
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from marketplace.accounts.models import ApiKey, Scope
from marketplace.api.auth import PublicRead, Scopes, caller_of
from marketplace.api.fal import calls, signing, tokens
from marketplace.api.fal.door import FalView
from marketplace.core.clock import now
from marketplace.jobs import names, places

_RUN: Scopes = {"POST": (Scope.RUN,)}
CDN = "/fal/cdn"


class TokenCreate(serializers.Serializer[Any]):
    """What a token is for."""

    allowed_apps = serializers.ListField(
        child=serializers.CharField(max_length=200), required=False, default=list, max_length=50
    )
    token_expiration = serializers.IntegerField(
        required=False, default=120, min_value=1, max_value=tokens.RUN_MAX_S
    )


def _refs(key: ApiKey, app: str) -> list[str]:
    return [app] if "/" in app else names.refs_named(key, app) or [app]


class Tokens(FalView):
    """Tokens with which a browser calls models."""

    scopes: ClassVar[Scopes] = _RUN

    def post(self, request: Request) -> Response:
        """Return a token as a bare string.

        Clients name a model by its `alias` alone. What that means is settled now: a token is good
        for no other vendor's. One that is open stays as it is, and the call says why it is refused,
        since clients tell nobody of an error here.
        """
        body = TokenCreate(data=request.data)
        body.is_valid(raise_exception=True)
        asked = body.validated_data
        key = caller_of(request).key
        apps = [ref for app in asked["allowed_apps"] for ref in _refs(key, str(app))]
        return Response(tokens.run_token(key, apps, asked["token_expiration"]))


class Keys(FalView):
    """What webhooks are checked with."""

    permission_classes = (PublicRead,)

    def get(self, request: Request) -> Response:
        """Return our public keys."""
        return Response(signing.jwks(), headers={"Cache-Control": "public, max-age=3600"})


class UploadToken(FalView):
    """A token with which files are sent."""

    scopes: ClassVar[Scopes] = _RUN

    def post(self, request: Request) -> Response:
        """Return a token, and where to send files with it."""
        ends = now().astimezone(UTC) + timedelta(seconds=tokens.UPLOAD_S - 30)
        return Response(
            {
                "token": tokens.upload_token(caller_of(request).key),
                "token_type": "Bearer",
                "base_url": f"{settings.PUBLIC_URL}{CDN}",
                "expires_at": ends.isoformat(),
            }
        )


class PlaceCreate(serializers.Serializer[Any]):
    """What a file is."""

    file_name = serializers.CharField(required=False, default="file", max_length=500)
    content_type = serializers.CharField(
        required=False, default="application/octet-stream", max_length=100
    )


class Initiate(FalView):
    """Where to send a file: the address is the permission, since clients send no key there."""

    scopes: ClassVar[Scopes] = _RUN
    way = "content"

    def post(self, request: Request) -> Response:
        """Return where to send it, and what names it then."""
        body = PlaceCreate(data=request.data)
        body.is_valid(raise_exception=True)
        place = places.place_make(
            org=caller_of(request).org,
            name=body.validated_data["file_name"],
            content_type=body.validated_data["content_type"],
            keep_s=calls.keep_s(request),
        )
        here = file_url(place.file)
        return Response({"upload_url": f"{here}/{self.way}/{place.token}", "file_url": here})


def file_url(file_id: object) -> str:
    """Return what names a file in an input."""
    return f"{settings.PUBLIC_URL}{CDN}/files/{file_id}"
