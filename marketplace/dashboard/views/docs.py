"""The documentation: our own Markdown files, and the API's operations from its schema."""

from functools import cache
from typing import Any

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe
from drf_spectacular.generators import SchemaGenerator

from marketplace.dashboard.markdown import Page, render_page

PAGES = {
    "quickstart": ("Quick start", "From an account to a picture in two minutes."),
    "keys": ("API keys", "Scopes, budgets, and what to do when one leaks."),
    "account": ("Your organisation", "Roles, the audit log, and how long data is kept."),
    "jobs": ("Jobs", "Submit, follow, cancel, and be told when it is done."),
    "inputs": ("Pictures, clips and LoRAs", "What an input may hold besides a prompt."),
    "billing": ("Billing", "Quotes, holds, charges, and the ledger behind them."),
    "invoices": ("Invoices", "The monthly close, documents, and how Stripe collects."),
    "pricing": ("Prices", "Units, schemes, free units, and how a quote follows from them."),
    "licences": ("Licences", "What you may do, what you accept first, and who is paid."),
    "stripe": ("Stripe", "What is set up there, what is asked of it, and its stand-in."),
    "vendors": ("Selling models", "List a model, set a price, and be paid."),
    "payouts": ("Statements and payouts", "What you earned, when it is paid, and why not yet."),
    "engine": ("The engine", "What makes models faster, and what each of it may cost."),
    "weights": ("Weights and LoRAs", "Where weights may be, and how they are checked."),
    "self-hosting": ("Self-hosting", "Run the whole market on your own machines."),
    "console": ("The staff console", "Review, reports, fleet, ledger, refunds and flags."),
    "worker-settings": ("Worker settings", "Every variable that a GPU worker reads."),
}
_METHODS = ("get", "post", "put", "patch", "delete")


@cache
def _page(slug: str) -> Page:
    """Return a page, rendered once per process: the files change with the code only."""
    text = (settings.BASE_DIR / "templates" / "docs" / f"{slug}.md").read_text()
    return render_page(text.replace("{{ PUBLIC_URL }}", settings.PUBLIC_URL))


@cache
def _operations() -> list[dict[str, Any]]:
    """Return the operations of the API with their parameters, in the order of the schema."""
    schema = SchemaGenerator().get_schema(request=None, public=True)  # type: ignore[no-untyped-call]
    found = []
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            if method not in _METHODS:
                continue
            found.append(
                {
                    "method": method.upper(),
                    "path": path,
                    "about": operation.get("description", operation.get("summary", "")),
                    "parameters": operation.get("parameters", []),
                    "answers": sorted(operation.get("responses", {})),
                }
            )
    return found


@require_safe
def index(request: HttpRequest) -> HttpResponse:
    """List the pages."""
    return render(request, "public/docs_index.html", {"pages": PAGES})


@require_safe
def page(request: HttpRequest, slug: str) -> HttpResponse:
    """Show one page."""
    if slug not in PAGES:
        raise Http404(f"There is no page {slug}.")
    context = {"pages": PAGES, "slug": slug, "title": PAGES[slug][0], "doc": _page(slug)}
    return render(request, "public/doc.html", context)


@require_safe
def reference(request: HttpRequest) -> HttpResponse:
    """List the operations of the API."""
    context = {"pages": PAGES, "slug": "api", "operations": _operations()}
    return render(request, "public/reference.html", context)
