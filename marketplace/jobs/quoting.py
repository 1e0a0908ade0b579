"""From an input to the most it can cost, and from a worker's report to what is rated. Pure.

Inputs use the field names that the ecosystem uses (diffusers, fal): width, height, num_images,
num_inference_steps, num_frames, fps, prompt.
"""

import math
from decimal import Decimal
from typing import Any

from billing.rating import (
    MAX_QUANTITY,
    NANO,
    Line,
    PriceTerms,
    Rating,
    RatingError,
    clamp,
    quantity_of,
)
from inference.protocol import Output, Usage
from marketplace.core.errors import InvalidInput

DEFAULTS = {"width": 1024, "height": 1024, "num_images": 1, "num_inference_steps": 50}
MAX_OUTPUTS = 16


def _bound(schema: dict[str, Any], values: dict[str, Any], field: str) -> int:
    """Return the input's value, else the schema's default or maximum, else the convention's."""
    node = schema.get("properties", {}).get(field)
    known = node if isinstance(node, dict) else {}
    for candidate in (values.get(field), known.get("default"), known.get("maximum")):
        # Not `int | float` alone: True is an int, and infinity has no int.
        if isinstance(candidate, bool) or not isinstance(candidate, int | float):
            continue
        if isinstance(candidate, int) or math.isfinite(candidate):
            return max(int(candidate), 0)
    return DEFAULTS.get(field, 0)


def output_count(schema: dict[str, Any], values: dict[str, Any]) -> int:
    """Return how many files the job makes. Raises InvalidInput above MAX_OUTPUTS."""
    count = max(_bound(schema, values, "num_images"), 1)
    if count > MAX_OUTPUTS:
        raise InvalidInput(
            f"At most {MAX_OUTPUTS} images in one job.",
            fields={"input.num_images": [f"At most {MAX_OUTPUTS}."]},
        )
    return count


def _characters(values: dict[str, Any]) -> int:
    """Return the length of the prompt in Unicode code points."""
    prompt = values.get("prompt")
    return len(prompt) if isinstance(prompt, str) else 0


def upper_bound(
    schema: dict[str, Any], values: dict[str, Any], max_engine_s: int
) -> dict[str, Any]:
    """Return the most that a job with these values can measure."""
    count = output_count(schema, values)
    pixels = _bound(schema, values, "width") * _bound(schema, values, "height")
    frames, fps = _bound(schema, values, "num_frames"), _bound(schema, values, "fps")
    return {
        "images": count,
        "megapixels": str(Decimal(pixels * count) / 1_000_000),
        "output_seconds": str(Decimal(frames) / max(fps, 1) * count) if frames else "0",
        "frames": max(frames, 1) * count,
        "requests": 1,
        "characters": _characters(values),
        "steps": _bound(schema, values, "num_inference_steps") * count,
        "engine_ms": max_engine_s * 1000,
    }


def quantity(terms: PriceTerms, bound: dict[str, Any]) -> Decimal:
    """Return the most units that are counted. Raises InvalidInput if that is out of bounds."""
    try:
        return quantity_of(terms.unit, bound)
    except RatingError as error:
        raise InvalidInput(str(error), code="quote_out_of_range") from error


def quote(terms: PriceTerms, bound: dict[str, Any], free: Decimal = Decimal(0)) -> Rating:
    """Return the most that a job can cost of which `free` units cost nothing.

    Raises InvalidInput if that is out of all bounds.
    """
    try:
        return terms.quote(quantity(terms, bound), free)
    except RatingError as error:
        raise InvalidInput(str(error), code="quote_out_of_range") from error


def measured(
    usage: Usage,
    outputs: list[Output],
    *,
    schema: dict[str, Any],
    values: dict[str, Any],
    max_engine_s: int,
) -> dict[str, Any]:
    """Return what is rated: outputs as stored, time on the device within its limit.

    A clip has its seconds times the rate that was asked for in frames, a picture has one.
    """
    fps = max(_bound(schema, values, "fps"), 1)
    pixels = sum((o.width or 0) * (o.height or 0) for o in outputs)
    seconds = [_seconds(o) for o in outputs]
    return {
        "images": len(outputs),
        "megapixels": str(_sane(Decimal(pixels) / 1_000_000)),
        "output_seconds": str(_sane(sum(seconds, Decimal(0)))),
        "frames": int(_sane(Decimal(sum(max(round(length * fps), 1) for length in seconds)))),
        "requests": 1,
        "characters": _characters(values),
        "steps": int(_sane(Decimal(usage.steps))),
        "engine_ms": min(max(usage.engine_ms, 0), max_engine_s * 1000),
    }


def _seconds(output: Output) -> Decimal:
    """Return the length of an output; a worker may report any number."""
    length = output.seconds or 0
    return _sane(Decimal(str(length))) if math.isfinite(length) else Decimal(0)


def _sane(quantity: Decimal) -> Decimal:
    """Return what a worker counted within what rating takes: its report must end the job."""
    return min(max(quantity, Decimal(0)), MAX_QUANTITY)


def charge(
    terms: PriceTerms, usage: dict[str, Any], quote_nano: int, free: Decimal = Decimal(0)
) -> Rating:
    """Return the charge for measured usage, never above the quote."""
    try:
        rating = terms.rate(quantity_of(terms.unit, usage), free)
    except RatingError:
        # More than a million dollars: the quote is less, and is what it costs.
        whole = f"{Decimal(quote_nano) / NANO:f}"
        return Rating(quote_nano, (Line("as quoted", "1", whole, whole),))
    return clamp(rating, quote_nano)
