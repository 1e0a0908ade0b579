"""All routes of the API and its doors, from the URLconf, so that no new one can be forgotten."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.urls import URLPattern, URLResolver, get_resolver

from marketplace.api.doors import NoSuchRoute
from marketplace.api.entrances import PREFIXES

_PARAMETER = re.compile(r"<(?:\w+:)?(\w+)>")


@dataclass(frozen=True)
class Route:
    """A route as it is written, such as `v1/jobs/<str:job_id>`."""

    text: str

    @property
    def parameters(self) -> list[str]:
        return _PARAMETER.findall(self.text)

    def path(self, values: dict[str, str]) -> str:
        return "/" + _PARAMETER.sub(lambda found: values[found[1]], self.text)


def _walk(patterns: list[Any], before: str) -> Iterator[tuple[str, Any]]:
    for each in patterns:
        text = before + str(each.pattern)
        if isinstance(each, URLResolver):
            yield from _walk(each.url_patterns, text)
        elif isinstance(each, URLPattern):
            yield text, getattr(each.callback, "view_class", None)


def all_routes() -> list[Route]:
    """Return the routes below the prefixes of programs, less those that answer 404 to all."""
    found = []
    for text, view in _walk(get_resolver().url_patterns, ""):
        if not ("/" + text).startswith(PREFIXES) or (view and issubclass(view, NoSuchRoute)):
            continue
        assert "(" not in text, f"{text}: a regular expression; the walk fills in paths only"
        found.append(Route(text))
    return found
