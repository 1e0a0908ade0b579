"""Template filters that write the figures of invoices."""

from decimal import Decimal

from django import template

from marketplace.core.money import format_usd

register = template.Library()
_UNITS = {
    "image": ("image", "images"),
    "megapixel": ("MP", "MP"),
    "output_second": ("s", "s"),
    "gpu_second": ("GPU s", "GPU s"),
    "step": ("step", "steps"),
}


@register.filter
def cents(value: int) -> str:
    """Write whole cents as dollars."""
    return format_usd(int(value) * 10_000_000)


@register.filter
def trimmed(value: Decimal) -> str:
    """Write a number without trailing zeros."""
    return f"{Decimal(value).normalize():f}"


@register.filter
def negative(value: int) -> int:
    """Return what is taken off."""
    return -int(value)


@register.filter
def unit(name: str, quantity: Decimal) -> str:
    """Write a unit in short: image, images, MP, s."""
    one, many = _UNITS.get(name, (name.replace("_", " "),) * 2)
    return one if quantity == 1 else many
