"""Template filters of the console: JSON for people, ages, sizes."""

import json
import time
from typing import Any

from django import template

register = template.Library()


@register.filter
def pretty(value: Any) -> str:
    """Write a value as indented JSON."""
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)


@register.filter
def age(moment: float) -> str:
    """Write how long ago an epoch time was: 3 s, 12 min, 5 h, 2 d."""
    past = max(time.time() - moment, 0)
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if past >= size:
            return f"{past // size:.0f} {unit}"
    return f"{past:.0f} s"


@register.filter
def gib(size: int) -> str:
    """Write bytes as GiB."""
    return f"{size / 2**30:.1f} GiB"
