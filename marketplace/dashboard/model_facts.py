"""What the page of a model tells besides its playground: price, terms, samples, code, figures."""

from collections.abc import Mapping
from typing import Any

from django.conf import settings

from inference.protocol import EXACT
from marketplace.catalog import chains
from marketplace.catalog.models import Model, Price, Unit, Version
from marketplace.dashboard import figures, present
from marketplace.dashboard.calculator import Calculator
from marketplace.dashboard.snippets import snippets_of
from marketplace.dashboard.terms_words import answers_of, lineage_of
from marketplace.jobs.standings import EXAMPLE, cost_of


def facts_of(
    model: Model,
    version: Version,
    price: Price | None,
    chain: chains.Chain,
    asked: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the context of the page's sections; `asked` is the address's query."""
    return {
        "price": price,
        "price_words": present.price_words(price),
        "unit_explained": present.UNITS_EXPLAINED[Unit(price.unit)] if price else "",
        "usual": cost_of(version, price, {}),
        "calculator": (calculator := Calculator(version, price, asked) if price else None),
        "costs": calculator.costs() if calculator else [],
        "licence": version.licence,
        "terms_answers": answers_of(chain),
        "lineage": lineage_of(chain),
        "split": present.split_of(chain, settings.SITE_NAME),
        "fields": present.schema_rows(version.input_schema),
        "snippets": snippets_of(model.ref, example_of(version.input_schema), model.task),
        "figures": figures.figures_of(version.weights_digest),
        "quality": version.profile.get("quality") or EXACT,
        "standing": getattr(model, "standing", None),
    }


def example_of(schema: dict[str, Any]) -> dict[str, Any]:
    """Return an input that a sample sends: what is required, an upload's id where one is."""
    given = {}
    for name in schema.get("required", []):
        node = schema.get("properties", {}).get(name)
        is_file = isinstance(node, dict) and node.get("format") == "file-id"
        given[name] = EXAMPLE if name == "prompt" else "ID_OF_YOUR_UPLOAD" if is_file else "…"
    return given
