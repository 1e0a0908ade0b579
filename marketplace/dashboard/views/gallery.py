"""What a visitor looks through: the gallery, a vendor's stall, the prices of today."""

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.cache import patch_vary_headers
from django.views.decorators.http import require_safe

from marketplace.accounts.selectors import organisation_get
from marketplace.catalog import selectors as catalog
from marketplace.catalog.gallery import Order, Wish
from marketplace.catalog.gallery import gallery as gallery_find
from marketplace.catalog.samples import samples_of
from marketplace.dashboard import present
from marketplace.dashboard.access import answers
from marketplace.dashboard.gallery_form import Search

_PER_PAGE, _PAGES = 24, 100
_SAMPLES = 4


def _cards(models: Any) -> list[dict[str, Any]]:
    """Return what a card shows of each model; prices and samples cost one query each."""
    rows = list(models)
    prices = catalog.prices_of(rows)
    listed = {model.pk: catalog.listed_version(model) for model in rows}
    samples = samples_of(listed.values())
    cards = []
    for model in rows:
        version = listed[model.pk]
        cards.append(
            {
                "model": model,
                "version": version,
                "price": present.price_words(prices.get(version.pk) if version else None),
                "samples": samples.get(version.pk, [])[:_SAMPLES] if version else [],
                "standing": getattr(model, "standing", None),
            }
        )
    return cards


def _goods(cards: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what lies on the stall: of each of the first models another one of its samples."""
    shown = []
    for position, card in enumerate(cards[:4]):
        samples = card["samples"]
        shown.append(card | {"shown": samples[position % len(samples)] if samples else None})
    return shown


@require_safe
def gallery(request: HttpRequest) -> HttpResponse:
    """Show the models that everybody may call."""
    search = Search(request.GET)
    start = (search.page - 1) * _PER_PAGE
    # One more than is shown tells whether there is a further page, without counting.
    rows = list(gallery_find(search.wish())[start : start + _PER_PAGE + 1])
    further = len(rows) > _PER_PAGE
    cards = _cards(rows[:_PER_PAGE])
    context = {
        "search": search,
        "form": search.form,
        "filters": [search.form[name] for name in ("licence", "price", "speed", "sort")],
        "cards": cards,
        "goods": _goods(cards),
        "newer": search.address(page=search.page - 1) if search.page > 1 else "",
        "older": search.address(page=search.page + 1) if further and search.page < _PAGES else "",
    }
    # htmx asks for the results alone while somebody types.
    partial = request.htmx and request.htmx.target == "results"  # type: ignore[attr-defined]
    page = render(request, "public/results.html" if partial else "public/gallery.html", context)
    patch_vary_headers(page, ["HX-Request"])
    if partial:  # the address that is shared says no more than what was asked for
        page["HX-Push-Url"] = request.path + search.address()
    return page


@answers
@require_safe
def vendor(request: HttpRequest, slug: str) -> HttpResponse:
    """Show a vendor and what it sells."""
    org = organisation_get(slug)
    page = _page_number(request)
    start = (page - 1) * _PER_PAGE
    rows = list(gallery_find(Wish()).filter(org=org)[start : start + _PER_PAGE + 1])
    context = {
        "vendor": org,
        "cards": _cards(rows[:_PER_PAGE]),
        "newer": f"?page={page - 1}" if page > 1 else "",
        "older": f"?page={page + 1}" if len(rows) > _PER_PAGE and page < _PAGES else "",
    }
    return render(request, "public/vendor.html", context)


def _page_number(request: HttpRequest) -> int:
    """Return the page that is asked for, 1 to _PAGES."""
    text = request.GET.get("page", "")
    return min(max(int(text), 1), _PAGES) if text.isdecimal() and len(text) < 4 else 1


@require_safe
def pricing(request: HttpRequest) -> HttpResponse:
    """Explain how prices work, with the prices of today."""
    cards = _cards(gallery_find(Wish(order=Order.CHEAPEST))[:12])
    for card in cards:
        each = card["standing"].output_nano if card["standing"] else None
        card["output_nano"] = each
        card["thousand_nano"] = None if each is None else each * 1000
    return render(request, "public/pricing.html", {"cards": cards})
