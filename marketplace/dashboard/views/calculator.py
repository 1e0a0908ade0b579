"""Answers what many calls of a model cost, while somebody changes the amounts."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from marketplace.catalog import selectors as catalog
from marketplace.core.errors import NotFound
from marketplace.dashboard.access import answers
from marketplace.dashboard.calculator import Calculator


@answers
@require_safe
def costs(request: HttpRequest, vendor: str, name: str) -> HttpResponse:
    """Answer the table of costs as a fragment. Raises NotFound for a model without a price."""
    org = request.org or None  # type: ignore[attr-defined]
    model = catalog.model_get(vendor=vendor, name=name, org=org)
    version = catalog.listed_version(model, org)
    price = catalog.prices_of([model]).get(version.pk) if version else None
    if version is None or price is None:
        raise NotFound(f"{model.ref} has no price.")
    calculator = Calculator(version, price, request.GET)
    return render(
        request, "public/costs.html", {"calculator": calculator, "costs": calculator.costs()}
    )
