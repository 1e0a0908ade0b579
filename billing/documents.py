"""Documents that people keep: PDF made from our own templates."""

from typing import Any

from django.conf import settings
from django.template.loader import render_to_string

from marketplace.core.errors import MarketError


class PdfUnavailable(MarketError):
    """The system's text libraries that WeasyPrint draws with are not installed."""

    status = 503
    code = "pdf_unavailable"


def render_pdf(template: str, context: dict[str, Any]) -> bytes:
    """Return a template as PDF. It fetches nothing: what is not inline in it is left out.

    Raises PdfUnavailable.
    """
    try:  # it loads fonts and libraries: not before it is needed
        from weasyprint import HTML
    except (ImportError, OSError) as error:
        raise PdfUnavailable(
            "PDF files need Pango on the server (Debian: libpango-1.0-0, libpangoft2-1.0-0). "
            "The CSV file and the page show the same."
        ) from error
    html = render_to_string(template, context | {"site_name": settings.SITE_NAME})
    return bytes(HTML(string=html, url_fetcher=_refuse).write_pdf())


def _refuse(url: str, *_args: Any, **_options: Any) -> Any:
    raise ValueError(f"documents fetch nothing, and not {url}")
