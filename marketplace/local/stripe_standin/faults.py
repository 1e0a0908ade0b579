"""Faults on demand: lost connections, rate limits, stored 500s and delays, seeded.

They hit requests of the API (`match`: the beginning of a path) or webhooks on their way out
(`match`: `webhook:` and the beginning of an event's type).
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

MODES = ("drop_before", "drop_after", "429", "500_stored", "delay")
WEBHOOK = "webhook:"
WEBHOOK_MODES = ("drop_before", "drop_after", "delay", "duplicate", "reorder")
_FIELDS = {"match", "mode", "times", "rate", "seed", "delay_s", "retry_after"}


@dataclass
class Fault:
    """One rule. `drop_before` loses the request, `drop_after` only its answer.

    Of a webhook, `duplicate` sends it twice, `delay` and `reorder` send what is behind it
    first and this one after `delay_s`. `times` says how often it may still fire (None: for
    ever), `rate` the chance that it does, drawn from `random.Random(seed)`; `retry_after`
    (seconds) is for `429`.
    """

    match: str
    mode: str
    times: int | None = None
    rate: float = 1.0
    seed: int = 0
    delay_s: float = 1.0
    retry_after: int | None = None
    fired: int = 0
    _random: random.Random = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def fires(self, path: str) -> bool:
        """Whether this request gets the fault; draws and counts."""
        if not path.startswith(self.match) or (self.times is not None and self.times <= 0):
            return False
        if self._random.random() >= self.rate:
            return False
        if self.times is not None:
            self.times -= 1
        self.fired += 1
        return True

    def describe(self) -> dict[str, Any]:
        """Return the rule as JSON, with what is left of it."""
        return {
            "match": self.match,
            "mode": self.mode,
            "times": self.times,
            "rate": self.rate,
            "seed": self.seed,
            "fired": self.fired,
        }


def parse(raw: Any) -> Fault:
    """Build a Fault from a JSON object. Raises ValueError naming the field."""
    if not isinstance(raw, dict):
        raise ValueError("the body is not a JSON object")
    if unknown := sorted(set(raw) - _FIELDS):
        raise ValueError(f"unknown field {unknown[0]}; known: {', '.join(sorted(_FIELDS))}")
    match = raw.get("match")
    if not isinstance(match, str) or not match.startswith(("/v1/", "/v2/", WEBHOOK)):
        raise ValueError(
            "match: the beginning of a path such as /v1/billing/meter_events, or webhook:invoice."
        )
    modes = WEBHOOK_MODES if match.startswith(WEBHOOK) else MODES
    if raw.get("mode") not in modes:
        raise ValueError(f"mode: one of {', '.join(modes)}")
    numbers: dict[str, tuple[type, ...]] = {
        "times": (int,),
        "rate": (int, float),
        "seed": (int,),
        "delay_s": (int, float),
        "retry_after": (int,),
    }
    for name, types in numbers.items():
        value = raw.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, types)):
            raise ValueError(f"{name}: not a number")
        if isinstance(value, int | float) and name != "seed" and value < 0:
            raise ValueError(f"{name}: negative")
    given = {name: value for name, value in raw.items() if value is not None}
    return Fault(**given)


class Faults:
    """The rules in force; the first that fires wins."""

    def __init__(self) -> None:
        self.rules: list[Fault] = []

    def draw(self, path: str) -> Fault | None:
        """Return the fault for a request to `path`, if any."""
        return next((rule for rule in self.rules if rule.fires(path)), None)
