"""The documentation: our own Markdown files, a search in them, and the API's reference."""

from dataclasses import dataclass
from functools import cache

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.cache import patch_vary_headers
from django.views.decorators.http import require_safe

from marketplace.dashboard.markdown import Page, render_page
from marketplace.dashboard.reference import reference as api_reference

GROUPS = {
    "Begin": {
        "quickstart": ("Quick start", "From an account to a picture in two minutes."),
        "keys": ("API keys", "Scopes, budgets, and what to do when one leaks."),
        "jobs": ("Jobs", "Submit, follow, cancel, and be told when it is done."),
        "playground": ("The playground", "Try a model on its page, and watch it draw."),
        "clients": ("Which client", "Ours, or the one that your program uses already."),
        "replicate": ("Replicate clients", "Use programs written for Replicate as they are."),
        "fal": ("fal clients", "Use programs written for fal as they are."),
        "openai": ("OpenAI clients", "Use programs written for OpenAI's pictures and videos."),
        "inputs": ("Pictures, clips and LoRAs", "What an input may hold besides a prompt."),
        "account": ("Your organisation", "Roles, the audit log, and how long data is kept."),
        "webhooks": ("Webhooks", "Events to your own server, and how to check who sent them."),
    },
    "Pay": {
        "billing": ("Billing", "Quotes, holds, charges, and the ledger behind them."),
        "invoices": ("Invoices", "The monthly close, documents, and how Stripe collects."),
        "pricing": ("Prices", "Units, schemes, free units, and how a quote follows from them."),
        "licences": ("Licences", "What you may do, what you accept first, and who is paid."),
    },
    "Sell": {
        "vendors": ("Selling models", "List a model, set a price, and be paid."),
        "weights": ("Weights and LoRAs", "Where weights may be, and how they are checked."),
        "payouts": ("Statements and payouts", "What you earned, when it is paid, and why not yet."),
    },
    "Run your own": {
        "self-hosting": ("Self-hosting", "Run the whole market on your own machines."),
        "console": ("The staff console", "Review, reports, fleet, ledger, refunds and flags."),
        "workers": ("Running workers", "Start, watch and stop what computes."),
        "worker-settings": ("Worker settings", "Every variable that a GPU worker reads."),
        "engine": ("The engine", "What makes models faster, and what each of it may cost."),
        "stripe": ("Stripe", "What is set up there, what is asked of it, and its stand-in."),
    },
}
PAGES = {slug: page for pages in GROUPS.values() for slug, page in pages.items()}


@dataclass(frozen=True, slots=True)
class Found:
    """A place in the docs where all words of a search stand together."""

    slug: str
    page: str
    anchor: str
    heading: str
    text: str


@cache
def _page(slug: str) -> Page:
    """Return a page, rendered once per process: the files change with the code only."""
    text = (settings.BASE_DIR / "templates" / "docs" / f"{slug}.md").read_text()
    return render_page(text.replace("{{ PUBLIC_URL }}", settings.PUBLIC_URL))


def _excerpt(text: str, word: str, length: int = 160) -> str:
    at = max(text.lower().find(word) - length // 3, 0)
    cut = text[at : at + length].strip()
    return ("… " if at else "") + cut + (" …" if at + length < len(text) else "")


def search(query: str) -> list[Found]:
    """Return sections that hold every word of `query`: those that name one in a heading first."""
    words = query.lower().split()[:8]
    if not words:
        return []
    found = []
    for slug, (title, _) in PAGES.items():
        for section in _page(slug).sections:
            whole = f"{title} {section.heading} {section.text}".lower()
            if all(word in whole for word in words):
                named = sum(word in f"{title} {section.heading}".lower() for word in words)
                text = _excerpt(section.text, words[0])
                found.append((-named, Found(slug, title, section.anchor, section.heading, text)))
    return [place for _, place in sorted(found, key=lambda pair: pair[0])][:20]


@require_safe
def index(request: HttpRequest) -> HttpResponse:
    """List the pages, or the places that `?q=` finds."""
    query = request.GET.get("q", "").strip()[:100]
    context = {"groups": GROUPS, "query": query, "found": search(query)}
    partial = request.htmx and request.htmx.target == "docs-found"  # type: ignore[attr-defined]
    answer = render(request, f"public/docs_{'found' if partial else 'index'}.html", context)
    patch_vary_headers(answer, ["HX-Request"])
    return answer


@require_safe
def page(request: HttpRequest, slug: str) -> HttpResponse:
    """Show one page, with the ones before and after it."""
    if slug not in PAGES:
        raise Http404(f"There is no page {slug}.")
    order = list(PAGES)
    at = order.index(slug)
    before = order[at - 1] if at else None
    after = order[at + 1] if at + 1 < len(order) else None
    context = {
        "groups": GROUPS,
        "slug": slug,
        "title": PAGES[slug][0],
        "about": PAGES[slug][1],
        "doc": _page(slug),
        "before": (before, PAGES[before][0]) if before else None,
        "after": (after, PAGES[after][0]) if after else None,
    }
    return render(request, "public/doc.html", context)


@require_safe
def reference(request: HttpRequest) -> HttpResponse:
    """List the operations and objects of the API."""
    context = {"groups": GROUPS, "slug": "api", "reference": api_reference()}
    return render(request, "public/reference.html", context)
