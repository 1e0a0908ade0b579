"""Files that clients send: whole or in parts, with a token in the header or in the address."""

from typing import Any, ClassVar

from django.http import HttpResponseBase, HttpResponseRedirect
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from marketplace.accounts.models import Scope
from marketplace.api.auth import Scopes, caller_of
from marketplace.api.fal.calls import keep_s
from marketplace.api.fal.door import FalView
from marketplace.api.fal.rest_views import file_url
from marketplace.api.fal.tokens import UploadAuthentication
from marketplace.core.errors import NotFound
from marketplace.jobs import files, places, selectors

_TYPE = "application/octet-stream"


def _body(request: Request) -> bytes:
    """Return a body that is no form. How large it may be is checked before it is stored."""
    body: bytes = request._request.read()
    return body


def _name(request: Request) -> str:
    return request.headers.get("X-Fal-File-Name", "").rpartition("/")[2].strip()[:200] or "file"


class Upload(FalView):
    """A file in one request."""

    authentication_classes = (UploadAuthentication,)
    scopes: ClassVar[Scopes] = {"POST": (Scope.RUN,)}

    def post(self, request: Request) -> Response:
        """Keep a file."""
        row = files.upload_store(
            org=caller_of(request).org,
            name=_name(request),
            content_type=request.headers.get("Content-Type", _TYPE)[:100],
            body=_body(request),
            keep_s=keep_s(request),
        )
        return Response({"access_url": file_url(row.pk)})


class MultipartCreate(FalView):
    """A file in parts."""

    authentication_classes = (UploadAuthentication,)
    scopes: ClassVar[Scopes] = {"POST": (Scope.RUN,)}

    def post(self, request: Request) -> Response:
        """Return where its parts go."""
        place = places.place_make(
            org=caller_of(request).org,
            name=_name(request),
            content_type=request.headers.get("Content-Type", _TYPE),
            keep_s=keep_s(request),
        )
        return Response({"access_url": file_url(place.file), "uploadId": place.token})


class _AtPlace(FalView):
    """Base of views whose address is the permission; a key that is sent too is not looked at."""

    authentication_classes = ()
    permission_classes = ()
    path_is_secret = True


class Content(_AtPlace):
    """A file at the place that was made for it."""

    def put(self, request: Request, file_id: str, token: str) -> Response:
        """Keep it."""
        row = places.content_store(places.place_read(token, file_id), _body(request))
        return Response({"access_url": file_url(row.pk)})


class Part(_AtPlace):
    """A part of a file."""

    def put(self, request: Request, file_id: str, token: str, number: int) -> Response:
        """Keep it; one client reads the header, another the body."""
        place = places.place_read(token, file_id)
        etag = f'"{places.part_store(place, number, _body(request))}"'
        return Response({"partNumber": number, "etag": etag}, headers={"ETag": etag})


class _PartOfList(serializers.Serializer[Any]):
    partNumber = serializers.IntegerField(min_value=1, max_value=10_000)  # noqa: N815
    etag = serializers.CharField(max_length=100)


class PartList(serializers.Serializer[Any]):
    """The parts of a file."""

    parts = serializers.ListField(child=_PartOfList(), allow_empty=False, max_length=10_000)


class Complete(_AtPlace):
    """The end of an upload in parts."""

    def post(self, request: Request, file_id: str, token: str) -> Response:
        """Join the parts."""
        place = places.place_read(token, file_id)
        body = PartList(data=request.data)
        body.is_valid(raise_exception=True)
        parts = body.validated_data["parts"]
        told = sorted((part["partNumber"], part["etag"].strip('"')) for part in parts)
        row = places.parts_join(place, told)
        return Response({"access_url": file_url(row.pk)})


class Access(FalView):
    """A file that was sent."""

    scopes: ClassVar[Scopes] = {"GET": (Scope.READ, Scope.RUN)}

    def get(self, request: Request, file_id: str) -> HttpResponseBase:
        """Lead its owner to a signed address."""
        row = selectors.upload_get(org=caller_of(request).org, file_id=file_id)
        url = selectors.file_url(row, 300)
        if url is None:
            raise NotFound("There is no such file.")
        return HttpResponseRedirect(url)
