"""Template filters that write amounts and sizes the way a person reads them."""

from typing import Literal

from django import template

from marketplace.core.money import format_usd

register = template.Library()


@register.filter
def usd(nano: int | Literal[""] | None) -> str:
    """Write nano-USD as dollars; nothing for an absent amount, which templates may call ""."""
    return "" if nano is None or nano == "" else format_usd(int(nano))


@register.filter
def cents(value: int | None) -> str:
    """Write cents as dollars; nothing for an absent amount."""
    return "" if value is None else format_usd(int(value) * 10_000_000)


@register.filter
def bps(value: int) -> str:
    """Write basis points as a percentage: 250 is 2.5 %."""
    return f"{value / 100:g} %"
