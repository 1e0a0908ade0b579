"""Says in words what the rows say in numbers: prices, licences, units, durations."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from marketplace.catalog.chains import Chain
from marketplace.catalog.models import LicenceKind, Price, Scheme, Unit
from marketplace.catalog.schemas import in_order

UNITS = {
    Unit.IMAGE: "image",
    Unit.MEGAPIXEL: "megapixel",
    Unit.OUTPUT_SECOND: "second of output",
    Unit.FRAME: "frame",
    Unit.GPU_SECOND: "second on the GPU",
    Unit.STEP: "step",
    Unit.REQUEST: "call",
    Unit.CHARACTER: "character of the prompt",
}
_MANY = {
    Unit.OUTPUT_SECOND: "seconds of output",
    Unit.GPU_SECOND: "seconds on the GPU",
    Unit.CHARACTER: "characters of the prompt",
}
UNITS_EXPLAINED = {
    Unit.IMAGE: "You pay for each image that you get back.",
    Unit.MEGAPIXEL: "You pay for the pixels that you get back: 1024 × 1024 is 1.05 megapixels.",
    Unit.OUTPUT_SECOND: "You pay for the length of what you get back.",
    Unit.GPU_SECOND: "You pay for the time that your job takes on the device.",
    Unit.STEP: "You pay for each denoising step of each image.",
    Unit.FRAME: "You pay for each frame of what you get back.",
    Unit.REQUEST: "You pay for each call that succeeds.",
    Unit.CHARACTER: "You pay for each character of your prompt.",
}
LICENCES = {
    LicenceKind.OPEN: "Use the results for anything, commercial work included.",
    LicenceKind.NON_COMMERCIAL: "Use the results for anything that is not commercial.",
    LicenceKind.COMMERCIAL: "Use the results commercially under the vendor's terms.",
}


def dollars(value: Decimal) -> str:
    """Write an exact price: at least two decimals, no trailing zeros beyond them."""
    text = f"{value.normalize():f}"
    whole, _, fraction = text.partition(".")
    return f"${int(whole):,}.{fraction.ljust(2, '0')}"


def number(value: Decimal) -> str:
    """Write a quantity without trailing zeros: "1,000" or "0.5"."""
    return f"{value.normalize():,f}"


def units(unit: str, quantity: Decimal) -> str:
    """Write a quantity of units: "30 steps"."""
    one = UNITS[Unit(unit)]
    word = one if quantity == 1 else _MANY.get(Unit(unit), f"{one}s")
    return f"{number(quantity)} {word}"


def price_words(price: Price | None) -> str:
    """Write a price in words: "$0.004 per image, at least $0.01"."""
    if price is None:
        return "No price yet"
    words = _unit_words(price)
    if price.minimum:
        words += f", at least {dollars(price.minimum)}"
    if price.free_quota:
        words += f", {units(price.unit, price.free_quota)} free a month"
    return words


def _unit_words(price: Price) -> str:
    unit = UNITS[Unit(price.unit)]
    if price.tiers:
        prices = [Decimal(str(tier["unit_price"])) for tier in price.tiers]
        low, high = min(prices), max(prices)
        span = dollars(low) if low == high else f"{dollars(low)} to {dollars(high)}"
        return f"{span} per {unit}" + (" by volume" if price.scheme == Scheme.VOLUME else "")
    if not price.unit_price and not price.minimum:
        return "Free"
    if price.package_size:
        return f"{dollars(price.unit_price)} per {units(price.unit, price.package_size)}"
    return f"{dollars(price.unit_price)} per {unit}"


@dataclass(frozen=True, slots=True)
class Part:
    """One recipient of a charge: `x` and `width` are percentages of the whole, for drawing."""

    who: str
    why: str
    bps: int
    x: float
    width: float
    tone: int


def split_of(chain: Chain, platform: str) -> list[Part]:
    """Return who gets which part of each charge of a version: vendor, royalties, platform."""
    version = chain.version
    rows = {str(row.pk): row for row in (version, *chain.ancestors)}
    parts: list[tuple[str, str, int]] = []
    for share in chain.shares:
        source = rows[share.version_id]
        own = share.version_id == str(version.pk)
        why = "makes this model" if own else f"royalty for {source}"
        parts.append((source.model.org.name, why, share.bps))
    parts.append((platform, "runs the market", 10_000 - sum(bps for _, _, bps in parts)))
    drawn, x = [], 0.0
    for position, (who, why, bps) in enumerate(parts):
        tone = 0 if position == len(parts) - 1 else 1 + position % 4
        drawn.append(Part(who, why, bps, x, bps / 100, tone))
        x += bps / 100
    return drawn


@dataclass(frozen=True, slots=True)
class Field:
    """One input of a model, as a table row."""

    name: str
    kind: str
    required: bool
    default: Any
    allowed: str
    about: str


def _allowed(node: dict[str, Any]) -> str:
    if "enum" in node:
        return ", ".join(str(value) for value in node["enum"])
    if "const" in node:
        return f"always {node['const']}"
    low, high = node.get("minimum"), node.get("maximum")
    found = []
    if low is not None and high is not None:
        found.append(f"{low} to {high}")
    elif low is not None:
        found.append(f"at least {low}")
    elif high is not None:
        found.append(f"at most {high}")
    if "multipleOf" in node:
        found.append(f"multiple of {node['multipleOf']}")
    if "maxLength" in node:
        found.append(f"at most {node['maxLength']} characters")
    return ", ".join(found)


def schema_rows(schema: dict[str, Any]) -> list[Field]:
    """Return the inputs of a schema, required ones first."""
    required = set(schema.get("required", []))
    rows = []
    for name, node in in_order(schema):
        kind = node.get("type", "any")
        rows.append(
            Field(
                name=name,
                kind=" or ".join(kind) if isinstance(kind, list) else str(kind),
                required=name in required and "default" not in node,
                default=node.get("default"),
                allowed=_allowed(node),
                about=str(node.get("description", node.get("title", ""))),
            )
        )
    return sorted(rows, key=lambda row: not row.required)
