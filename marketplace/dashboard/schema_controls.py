"""How a property of an input schema is shown in a form: sliders, sizes, files, LoRAs, lists."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from django import forms
from django.core.exceptions import ValidationError

from inference.protocol import MAX_LORA_SCALE, MAX_LORAS

_ASPECTS = [
    ("Square", 1, 1),
    ("Landscape", 4, 3),
    ("Photo", 3, 2),
    ("Wide", 16, 9),
    ("Portrait", 3, 4),
    ("Upright photo", 2, 3),
    ("Tall", 9, 16),
]
_SIDE_STEP = 16
_NEAR = 0.06
"""How far a preset's sides may be from their aspect, as a share."""
_SLIDER_STEPS = 100
_SLIDER_MOST = 100_000
"""A range of more steps than this is no use as a slider."""
_ROWS = 3
_MAX_LINES = 1000


@dataclass(frozen=True, slots=True)
class Preset:
    """A size by the name of its aspect; `ratio` is as people write it."""

    name: str
    ratio: str
    width: int
    height: int


@dataclass(slots=True)
class Control:
    """How a field is shown: `kind` names the part of the template.

    `low`, `high` and `step` are a slider's, or bound a seed; `over` is the id of the field that
    this one goes with; `rows` and `choices` are those of LoRAs; `url` shows a named file.
    """

    kind: str
    low: float = 0
    high: float = 0
    step: float = 1
    over: str = ""
    grouped: bool = False
    value: Any = None
    url: str = ""
    name: str = ""
    presets: list[Preset] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    choices: list[tuple[str, str]] = field(default_factory=list)

    @property
    def at(self) -> Any:
        """Where the slider stands: at the value, or in the middle where there is none."""
        return self.value if self.value not in (None, "") else (self.low + self.high) / 2


def plain(node: Any) -> dict[str, Any]:
    """Return a property without its "or null": an input that is left out says the same."""
    if not isinstance(node, dict):
        return {}
    kind = node.get("type")
    if isinstance(kind, list):
        kinds = [one for one in kind if one != "null"]
        return {**node, "type": kinds[0] if len(kinds) == 1 else kinds}
    for word in ("anyOf", "oneOf"):
        options = node.get(word)
        if not isinstance(options, list) or "type" in node:
            continue
        real = [o for o in options if not (isinstance(o, dict) and o.get("type") == "null")]
        if len(real) == 1 and isinstance(real[0], dict):
            rest = {name: value for name, value in node.items() if name != word}
            return plain({**real[0], **rest})
    return node


def is_file(node: Mapping[str, Any]) -> bool:
    """Tell whether a property names an uploaded file."""
    return node.get("type") == "string" and node.get("format") == "file-id"


def _number(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if is_number and math.isfinite(value) else None


def bounds_of(node: Mapping[str, Any]) -> tuple[Any, Any]:
    """Return the least and the greatest value of a number, None where it has none.

    Those of an integer are integers, and multiples of what it must be a multiple of.
    """
    low, high = _number(node.get("minimum")), _number(node.get("maximum"))
    above, below = _number(node.get("exclusiveMinimum")), _number(node.get("exclusiveMaximum"))
    if node.get("type") != "integer":
        return (above if low is None else low), (below if high is None else high)
    multiple = _number(node.get("multipleOf")) or 1
    every = int(multiple) if float(multiple).is_integer() else 1
    lows = [math.ceil(v) for v in (low,) if v is not None]
    lows += [math.floor(v) + 1 for v in (above,) if v is not None]
    highs = [math.floor(v) for v in (high,) if v is not None]
    highs += [math.ceil(v) - 1 for v in (below,) if v is not None]
    least = -(-max(lows) // every) * every if lows else None
    most = min(highs) // every * every if highs else None
    return least, most


def slider_of(node: Mapping[str, Any], low: Any, high: Any) -> Control | None:
    """Return the slider of a number that has two bounds, None where it would be no use."""
    if low is None or high is None or high <= low:
        return None
    step = _number(node.get("multipleOf")) or 0
    if node.get("type") == "integer":
        step = int(step) if step and float(step).is_integer() else 1
    elif not step:
        # A power of ten that gives at least so many steps.
        step = 10.0 ** math.floor(math.log10((high - low) / _SLIDER_STEPS))
        step = float(f"{step:.10g}")
    if step <= 0 or (high - low) / step > _SLIDER_MOST:
        return None
    return Control("slider", low=low, high=high, step=step)


def presets_of(width: Mapping[str, Any], height: Mapping[str, Any]) -> list[Preset]:
    """Return sizes of usual aspects within the bounds of a width and a height, of like area."""
    if any(node.get("type") != "integer" or "enum" in node for node in (width, height)):
        return []
    spans = [bounds_of(node) for node in (width, height)]
    if any(low is None or high is None or low >= high for low, high in spans):
        return []
    usual = [
        _number(node.get("default")) or span[1]
        for node, span in zip((width, height), spans, strict=True)
    ]
    area = usual[0] * usual[1]
    found: dict[tuple[int, int], Preset] = {}
    for name, across, down in _ASPECTS:
        wanted = math.sqrt(area * across / down), math.sqrt(area * down / across)
        most = min(1.0, spans[0][1] / wanted[0], spans[1][1] / wanted[1])
        sides = [
            _side(node, span, side * most)
            for node, span, side in zip((width, height), spans, wanted, strict=True)
        ]
        if abs(sides[0] * down / (sides[1] * across) - 1) <= _NEAR:
            preset = Preset(name, f"{across}:{down}", sides[0], sides[1])
            found.setdefault((sides[0], sides[1]), preset)
    return list(found.values()) if len(found) > 1 else []


def _side(node: Mapping[str, Any], span: tuple[int, int], wanted: float) -> int:
    """Return the side nearest to what is wanted that the bounds and the engine allow."""
    multiple = _number(node.get("multipleOf")) or 1
    every = math.lcm(int(multiple) if float(multiple).is_integer() else 1, _SIDE_STEP)
    low, high = -(-span[0] // every) * every, span[1] // every * every
    if low > high:
        return span[0]
    return int(min(max(round(wanted / every) * every, low), high))


class LinesWidget(forms.Textarea):
    """A list, one item a line."""

    def format_value(self, value: Any) -> str | None:
        """Write a list as lines."""
        if isinstance(value, list):
            return "\n".join(str(one) for one in value)
        text: str | None = super().format_value(value)
        return text


class LinesField(forms.Field):
    """A list of texts or numbers, one a line."""

    widget = LinesWidget

    def __init__(self, *, kind: str, **options: Any) -> None:
        super().__init__(**{**options, "widget": LinesWidget(attrs={"rows": 3})})
        self.kind = kind
        self.help_text = f"{self.help_text} One a line.".strip()

    def clean(self, value: Any) -> list[Any]:
        """Return the items. Raises ValidationError for a line that is no number."""
        lines = value if isinstance(value, list) else str(value or "").splitlines()
        items = [line for line in lines if str(line).strip()]
        if len(items) > _MAX_LINES:
            raise ValidationError(f"At most {_MAX_LINES} lines.")
        if self.kind != "string":
            items = [self._number(line) for line in items]
        if self.required and not items:
            raise ValidationError(self.error_messages["required"], code="required")
        return items

    def _number(self, text: Any) -> float:
        try:
            return int(text) if self.kind == "integer" else _finite(text)
        except (ValueError, OverflowError) as error:
            raise ValidationError(f"{str(text)[:40]} is not a number.") from error


def _finite(text: Any) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number


class LorasWidget(forms.Widget):
    """Rows of a LoRA and its scale; the template draws them."""

    def value_from_datadict(self, data: Mapping[str, Any], files: Any, name: str) -> Any:
        """Return the rows that have a LoRA, as they were written."""
        rows = []
        for number in range(MAX_LORAS):
            uri = str(data.get(f"{name}-{number}-uri") or "").strip()
            if uri:
                rows.append({"uri": uri, "scale": data.get(f"{name}-{number}-scale", "")})
        return rows

    def value_omitted_from_data(self, data: Any, files: Any, name: str) -> bool:
        """Rows that are left empty were not omitted."""
        return False


class LorasField(forms.Field):
    """LoRAs and how strongly each acts."""

    widget = LorasWidget

    def __init__(self, *, most: int | None, **options: Any) -> None:
        super().__init__(**options)
        self.most = max(1, min(MAX_LORAS, MAX_LORAS if most is None else most))

    def clean(self, value: Any) -> list[dict[str, Any]]:
        """Return the LoRAs as an input names them. Raises ValidationError."""
        rows = [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []
        found = [{"uri": str(row["uri"]), "scale": self._scale(row)} for row in rows]
        if len(found) > self.most:
            raise ValidationError(f"At most {self.most}.")
        if self.required and not found:
            raise ValidationError(self.error_messages["required"], code="required")
        return found

    @staticmethod
    def _scale(row: Mapping[str, Any]) -> float:
        text = row.get("scale", 1)
        try:
            scale = 1.0 if text in ("", None) else _finite(text)
        except (ValueError, TypeError) as error:
            raise ValidationError("The strength of a LoRA is a number.") from error
        if abs(scale) > MAX_LORA_SCALE:
            raise ValidationError(
                f"The strength is between {-MAX_LORA_SCALE:g} and {MAX_LORA_SCALE:g}."
            )
        return scale

    def rows(self, value: Any) -> list[dict[str, Any]]:
        """Return the rows to draw: those filled in, and empty ones to fill in."""
        given: Sequence[Any] = value if isinstance(value, list) else []
        rows = [row for row in given if isinstance(row, dict) and "uri" in row][: self.most]
        count = min(max(_ROWS, len(rows) + 1), self.most)
        return [*rows, *({"uri": "", "scale": 1} for _ in range(count - len(rows)))]
