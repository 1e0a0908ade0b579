"""Content negotiation that never refuses: published clients ask for types we stream ourselves."""

from typing import Any

from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.request import Request


class AcceptAnything(BaseContentNegotiation):
    """Answers JSON whatever `Accept` says, and picks the parser by content type."""

    def select_parser(self, request: Request, parsers: Any) -> Any:
        """Return the parser of the body's type, JSON if none is named."""
        kind = (request.content_type or "").partition(";")[0].strip().lower()
        return next((p for p in parsers if p.media_type == kind), None) if kind else parsers[0]

    def select_renderer(
        self, request: Request, renderers: Any, format_suffix: str | None = None
    ) -> Any:
        """Return the first renderer."""
        return renderers[0], renderers[0].media_type
