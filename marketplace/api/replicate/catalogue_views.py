"""Models, versions, search, collections, hardware: what may be called, read by everybody."""

import json
from collections.abc import Sequence
from typing import Any

from django.conf import settings
from rest_framework.parsers import BaseParser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from marketplace.api.auth import PublicRead, caller_of, org_of
from marketplace.api.doors import WITH_QUERY, DoorView
from marketplace.api.pagination import CursorPagination
from marketplace.api.replicate import present
from marketplace.catalog import selectors
from marketplace.catalog.gallery import Wish, gallery
from marketplace.catalog.models import Model, Task, Version, Visibility
from marketplace.core.errors import NotFound

_IN_COLLECTION = 100
_IN_SEARCH = 100


def version_json(row: Version) -> dict[str, Any]:
    """Return a version; its input schema stands where these clients look for it."""
    address = {"type": "string", "format": "uri"}
    many = {"type": "array", "items": address, "title": "Output"}
    schema = dict(row.input_schema)
    schema["properties"] = {
        name: {**node, "format": "uri"} if node.get("format") == "file-id" else node
        for name, node in schema["properties"].items()
    }
    made = many if present.many_outputs(schema) else {**address, "title": "Output"}
    return {
        "id": str(row.pk),
        "created_at": present.moment(row.created_at),
        "cog_version": "0.9.0",  # from which on clients read the schema as it stands here
        "openapi_schema": {
            "openapi": "3.1.0",
            "info": {"title": str(row), "version": str(row.number)},
            "paths": {},
            "components": {"schemas": {"Input": {"title": "Input", **schema}, "Output": made}},
        },
    }


def model_json(row: Model, org: Any = None, *, with_version: bool = True) -> dict[str, Any]:
    """Return a listing, with the version that its name means to `org`."""
    current = selectors.listed_version(row, org)
    standing = getattr(row, "standing", None)
    a_month = 30 * standing.calls_per_day if standing else 0
    page = f"{settings.PUBLIC_URL}/models/{row.ref}"
    return {
        "url": page,
        "owner": row.org.slug,
        "name": row.name,
        "description": row.summary or row.title,
        "visibility": "public" if row.visibility == Visibility.PUBLIC else "private",
        "is_official": False,
        "github_url": None,
        "paper_url": None,
        "license_url": page if current else None,
        "run_count": round(a_month),  # of the last 30 days
        "cover_image_url": None,
        "default_example": None,
        "latest_version": version_json(current) if current and with_version else None,
    }


def _page(view: APIView, request: Request, rows: Any) -> Response:
    pages = CursorPagination()
    page: Sequence[Any] = pages.paginate_queryset(rows, request, view) or []
    return pages.get_paginated_response([model_json(row) for row in page])


def _whole(results: list[Any]) -> Response:
    """Return all there is, as a page without another."""
    return Response({"previous": None, "next": None, "results": results})


class TextParser(BaseParser):
    """A body of plain text: the words to search for."""

    media_type = "text/plain"

    def parse(
        self, stream: Any, media_type: str | None = None, parser_context: Any = None
    ) -> dict[str, str]:
        """Return {"words": text}; one client sends it as a JSON string."""
        text: str = stream.read(2000).decode("utf-8", "replace").replace("\x00", "").strip()
        try:
            given = json.loads(text)
        except ValueError:
            given = text
        return {"words": given if isinstance(given, str) else text}


class ModelList(DoorView):
    """The gallery, and search in it by the method QUERY."""

    permission_classes = (PublicRead,)
    parser_classes = (TextParser,)
    http_method_names = WITH_QUERY

    def get(self, request: Request) -> Response:
        """List public models, newest first."""
        return _page(self, request, gallery(Wish()))

    def query(self, request: Request) -> Response:
        """Return the models that fit the words of the body, the best first."""
        given: Any = request.data
        rows = gallery(Wish(text=str(given.get("words", ""))[:100]))
        return _whole([model_json(row) for row in rows[:_IN_SEARCH]])


class ModelDetail(DoorView):
    """One model."""

    permission_classes = (PublicRead,)

    def get(self, request: Request, owner: str, name: str) -> Response:
        """Return a model and the version that a call of it gets."""
        org = org_of(request)
        return Response(model_json(selectors.model_get(vendor=owner, name=name, org=org), org))


def _versions(request: Request, owner: str, name: str) -> list[Version]:
    model = selectors.model_get(vendor=owner, name=name, org=org_of(request))
    return selectors.callable_versions(model)


class VersionList(DoorView):
    """The versions of a model."""

    permission_classes = (PublicRead,)

    def get(self, request: Request, owner: str, name: str) -> Response:
        """List the versions that can be called, newest first."""
        return _whole([version_json(row) for row in _versions(request, owner, name)])


class VersionDetail(DoorView):
    """One version."""

    permission_classes = (PublicRead,)

    def get(self, request: Request, owner: str, name: str, version_id: str) -> Response:
        """Return a version that can be called, by its id or its number."""
        for row in _versions(request, owner, name):
            if version_id in (str(row.pk), row.pk.hex, str(row.number)):
                return Response(version_json(row))
        raise NotFound(f"There is no version {version_id} of {owner}/{name}.")


def _collection(task: Task) -> dict[str, str]:
    words = f"Models that make {task.label.lower()}."
    return {"slug": task.value, "name": task.label, "description": words}


class CollectionList(DoorView):
    """Models by what they do."""

    permission_classes = (PublicRead,)

    def get(self, request: Request) -> Response:
        """List the collections: one for each task."""
        return _whole([_collection(task) for task in Task])


class CollectionDetail(DoorView):
    """The models of one task."""

    permission_classes = (PublicRead,)

    def get(self, request: Request, slug: str) -> Response:
        """Return a collection with its models, the most used first."""
        if slug not in Task.values:
            raise NotFound(f"There is no collection {slug}.")
        rows = gallery(Wish(task=slug))[:_IN_COLLECTION]
        return Response(_collection(Task(slug)) | {"models": [model_json(row) for row in rows]})


class HardwareList(DoorView):
    """Classes of hardware."""

    permission_classes = (PublicRead,)

    def get(self, request: Request) -> Response:
        """List the classes on which public models run; a model's vendor has chosen its class."""
        return Response([{"sku": name, "name": name} for name in selectors.hardware_classes()])


class AccountDetail(DoorView):
    """Who calls."""

    def get(self, request: Request) -> Response:
        """Return the organisation of the key."""
        org = caller_of(request).org
        shown = {"type": "organization", "username": org.slug, "name": org.name}
        return Response({**shown, "github_url": None})


class NoDeployments(DoorView):
    """Deployments, which there are none of here."""

    def get(self, request: Request) -> Response:
        """Return none."""
        return _whole([])
