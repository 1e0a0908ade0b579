"""What many calls of a model cost: the amounts that its price depends on, times how often."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django import forms

from billing.rating import PriceTerms
from marketplace.catalog import selectors as catalog
from marketplace.catalog.models import Price, Unit, Version
from marketplace.core.errors import MarketError
from marketplace.jobs import quoting, requests
from marketplace.jobs.standings import EXAMPLE

PREFIX = "calc"
CALLS = (1, 100, 10_000)
MOST_CALLS = 1_000_000_000
_COUNTS: dict[str, tuple[str, ...]] = {
    Unit.IMAGE: ("num_images",),
    Unit.MEGAPIXEL: ("num_images", "width", "height"),
    Unit.OUTPUT_SECOND: ("num_images", "num_frames", "fps"),
    Unit.FRAME: ("num_images", "num_frames"),
    Unit.STEP: ("num_images", "num_inference_steps"),
    Unit.CHARACTER: ("prompt",),
}


@dataclass(frozen=True, slots=True)
class Cost:
    """What `calls` calls cost at most, in nano-USD."""

    calls: int
    amount_nano: int


def cost_of_calls(terms: PriceTerms, bound: dict[str, Any], free: Decimal, calls: int) -> int:
    """Return what `calls` equal calls of a month cost at most, of whose units `free` are free."""
    each = quoting.quote(terms, bound).amount_nano
    units = quoting.quantity(terms, bound)
    if not free or not units:
        return each * calls
    covered = min(calls, int(free // units))
    total = covered * quoting.quote(terms, bound, units).amount_nano
    if calls > covered:
        left = free - covered * units
        total += quoting.quote(terms, bound, left).amount_nano + (calls - covered - 1) * each
    return total


class Calculator(forms.Form):
    """Fields for the inputs that the price counts, and for the number of calls."""

    def __init__(self, version: Version, price: Price, data: Mapping[str, Any]) -> None:
        # Without an amount in it the address asks for nothing: the defaults are shown then.
        asked = any(key.startswith(f"{PREFIX}-") for key in data)
        super().__init__(data if asked else None, prefix=PREFIX, auto_id="%s")
        self.version, self.price = version, price
        schema = version.input_schema
        for name in _COUNTS.get(price.unit, ()):
            node = schema["properties"].get(name)
            if isinstance(node, dict) and "const" not in node:
                self.fields[name] = _field(name, node)
        self.fields["calls"] = forms.IntegerField(
            label="Calls a month", min_value=1, max_value=MOST_CALLS, initial=1000, required=False
        )

    @property
    def chosen(self) -> dict[str, Any]:
        """Return the amounts that count: what was filled in, else the defaults."""
        values = {name: field.initial for name, field in self.fields.items()}
        if self.is_bound and self.is_valid():
            given = {k: v for k, v in self.cleaned_data.items() if v not in ("", None)}
            values |= given
        return {name: value for name, value in values.items() if value is not None}

    def costs(self) -> list[Cost]:
        """Return what 1, 100, 10,000 and as many calls as asked for cost at most.

        Empty if the amounts are no input that the model takes.
        """
        if self.is_bound and not self.is_valid():
            return []
        chosen = self.chosen
        calls = chosen.pop("calls", None)
        schema = self.version.input_schema
        given = dict.fromkeys(schema.get("required", []), EXAMPLE) | chosen
        if self.price.unit == Unit.CHARACTER:
            length = int(chosen.get("prompt", len(EXAMPLE)))
            given["prompt"] = "a" * min(length, requests.MAX_INPUT_BYTES)  # as many are refused
        try:
            bound = requests.bound_of(self.version, given)[1]
            terms, free = catalog.terms(self.price), self.price.free_quota
            return [
                Cost(count, cost_of_calls(terms, bound, free, count))
                for count in sorted({*CALLS, *([calls] if calls else [])})
            ]
        except MarketError:
            return []


def _field(name: str, node: dict[str, Any]) -> forms.Field:
    label = str(node.get("title") or name.replace("_", " ").capitalize())
    if name == "prompt":
        return forms.IntegerField(
            label="Characters of the prompt",
            min_value=node.get("minLength", 1),
            max_value=min(node.get("maxLength", 4000), requests.MAX_INPUT_BYTES),
            initial=max(len(EXAMPLE), node.get("minLength", 1)),
            required=False,
        )
    if isinstance(node.get("enum"), list):
        kinds = {str(value): value for value in node["enum"]}
        return forms.TypedChoiceField(
            label=label,
            choices=[(value, value) for value in node["enum"]],
            coerce=lambda text: kinds[str(text)],
            initial=node.get("default", node["enum"][0]),
            required=False,
            empty_value=None,
        )
    kind = forms.FloatField if node.get("type") == "number" else forms.IntegerField
    return kind(
        label=label,
        min_value=node.get("minimum"),
        max_value=node.get("maximum"),
        initial=node.get("default", quoting.DEFAULTS.get(name)),
        required=False,
    )
