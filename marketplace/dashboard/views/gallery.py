"""What a visitor looks through: the gallery, a vendor's stall, the prices of today."""

from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from marketplace.accounts.selectors import organisation_get
from marketplace.catalog import selectors as catalog
from marketplace.catalog.gallery import Order, Wish
from marketplace.catalog.gallery import gallery as gallery_find
from marketplace.dashboard import present, samples
from marketplace.dashboard.access import answers
from marketplace.dashboard.gallery_form import Search

_PER_PAGE = 24


def _cards(models: Any) -> list[dict[str, Any]]:
    """Return what a card shows of each model; the price costs one query for all."""
    rows = list(models)
    prices = catalog.prices_of(rows)
    cards = []
    for model in rows:
        version = catalog.listed_version(model)
        cards.append(
            {
                "model": model,
                "version": version,
                "price": present.price_words(prices.get(version.pk) if version else None),
                "sample": samples.sample_of(model.ref),
                "standing": getattr(model, "standing", None),
            }
        )
    return cards


@require_safe
def gallery(request: HttpRequest) -> HttpResponse:
    """Show the models that everybody may call."""
    search = Search(request.GET)
    start = (search.page - 1) * _PER_PAGE
    # One more than is shown tells whether there is a further page, without counting.
    rows = list(gallery_find(search.wish())[start : start + _PER_PAGE + 1])
    further = len(rows) > _PER_PAGE
    context = {
        "search": search,
        "form": search.form,
        "cards": _cards(rows[:_PER_PAGE]),
        "further": further,
        "newer": search.address(page=search.page - 1) if search.page > 1 else "",
        "older": search.address(page=search.page + 1) if further else "",
        "welcome_credit": settings.WELCOME_CREDIT_USD,
    }
    # htmx asks for the results alone while somebody types.
    partial = request.htmx and request.htmx.target == "results"  # type: ignore[attr-defined]
    return render(request, "public/results.html" if partial else "public/gallery.html", context)


@answers
@require_safe
def vendor(request: HttpRequest, slug: str) -> HttpResponse:
    """Show a vendor and what it sells."""
    org = organisation_get(slug)
    models = gallery_find(Wish()).filter(org=org)
    return render(request, "public/vendor.html", {"vendor": org, "cards": _cards(models[:60])})


@require_safe
def pricing(request: HttpRequest) -> HttpResponse:
    """Explain how prices work, with the prices of today."""
    cards = _cards(gallery_find(Wish(order=Order.CHEAPEST))[:12])
    return render(
        request,
        "public/pricing.html",
        {"cards": cards, "welcome_credit": settings.WELCOME_CREDIT_USD},
    )
