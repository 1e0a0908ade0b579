"""Files: uploads that a call's input can name, and the secret that webhooks are signed with."""

import json
from typing import Any, ClassVar

from django.http import HttpResponseBase, HttpResponseRedirect
from rest_framework.parsers import MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response

from marketplace.accounts import rotation
from marketplace.accounts.models import Scope
from marketplace.api.auth import Scopes, caller_of, caller_unlimited
from marketplace.api.doors import DoorView
from marketplace.api.pagination import paginate
from marketplace.api.replicate import present
from marketplace.core.errors import InvalidInput, NotFound
from marketplace.core.text import check_storable
from marketplace.jobs import files, selectors
from marketplace.jobs.models import File

_METADATA_MAX = 4096


def file_json(row: File) -> dict[str, Any]:
    """Return an upload; `urls.get` is what an input names it by."""
    here = present.url(f"files/{row.pk}")
    return {
        "id": str(row.pk),
        "name": row.name,
        "content_type": row.content_type,
        "size": row.size or 0,
        "etag": row.sha256,
        "checksums": {"sha256": row.sha256} if row.sha256 else {},
        "metadata": row.metadata or {},
        "created_at": present.moment(row.created_at),
        "expires_at": present.moment(row.expires_at),
        "urls": {"get": here, "download": f"{here}/download"},
    }


def _metadata(request: Request) -> dict[str, Any] | None:
    """Return what the caller notes about a file. Raises InvalidInput if it is no small object."""
    part = request.FILES.get("metadata")  # one client sends it as a file
    text = part.read(_METADATA_MAX + 1).decode("utf-8", "replace") if part else ""
    text = text or request._request.POST.get("metadata", "")
    if not text:
        return None
    try:
        found = json.loads(text)
        check_storable(found)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or len(text) > _METADATA_MAX:
        why = f"A JSON object of at most {_METADATA_MAX} characters."
        raise InvalidInput("The metadata is not valid.", fields={"metadata": [why]})
    return found


class FileList(DoorView):
    """Uploads of the caller."""

    scopes: ClassVar[Scopes] = {"POST": (Scope.RUN,), "GET": (Scope.READ, Scope.RUN)}
    parser_classes = (MultiPartParser,)

    def post(self, request: Request) -> Response:
        """Keep a file: the part `content`, and what `metadata` notes about it."""
        content = request.FILES.get("content")
        if content is None:
            why = "A part of multipart/form-data with the file."
            raise InvalidInput("Send the file.", fields={"content": [why]})
        row = files.upload_store(
            org=caller_of(request).org,
            name=(content.name or "file").rpartition("/")[2][:200] or "file",
            content_type=(content.content_type or "application/octet-stream")[:100],
            body=content.read(),
            metadata=_metadata(request),
        )
        return Response(file_json(row), status=201)

    def get(self, request: Request) -> Response:
        """List uploads, newest first."""
        return paginate(self, request, selectors.uploads_of(caller_of(request).org), file_json)


class FileDetail(DoorView):
    """One upload."""

    scopes: ClassVar[Scopes] = {"GET": (Scope.READ, Scope.RUN), "DELETE": (Scope.RUN,)}

    def get(self, request: Request, file_id: str) -> Response:
        """Return an upload."""
        row = selectors.upload_get(org=caller_of(request).org, file_id=file_id)
        return Response(file_json(files.size_refresh(row)))

    def delete(self, request: Request, file_id: str) -> Response:
        """Delete an upload at once."""
        org = caller_of(request).org
        files.upload_delete(selectors.upload_get(org=org, file_id=file_id))
        return Response(status=204)


class FileDownload(DoorView):
    """The bytes of an upload."""

    scopes: ClassVar[Scopes] = {"GET": (Scope.READ, Scope.RUN)}

    def get(self, request: Request, file_id: str) -> HttpResponseBase:
        """Lead to a signed address."""
        row = selectors.upload_get(org=caller_of(request).org, file_id=file_id)
        url = selectors.file_url(row, 300)
        if url is None:
            raise NotFound("There is no such file.")
        return HttpResponseRedirect(url)


class WebhookSecret(DoorView):
    """What webhooks are signed with."""

    scopes: ClassVar[Scopes] = {"GET": (Scope.ADMIN,)}

    def get(self, request: Request) -> Response:
        """Return the organisation's secret, to a key without limits that may administer it."""
        org = caller_unlimited(request).org
        return Response({"key": rotation.webhook_secret_read(org=org)})
