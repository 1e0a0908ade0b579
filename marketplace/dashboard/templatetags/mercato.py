"""Template tags of the pages: placeholder pictures, durations, links that keep the query."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from urllib.parse import urlsplit

from django import template
from django.template.loader import render_to_string
from django.utils.safestring import SafeString

from marketplace.catalog.models import Version
from marketplace.dashboard import charts, markdown
from marketplace.jobs.models import Job

register = template.Library()
_TONES = {
    "succeeded": "good", "listed": "good", "delivered": "good",
    "paid": "good", "running": "busy", "submitted": "busy", "open": "busy",
    "failed": "bad", "suspended": "bad", "uncollectible": "bad",
}  # fmt: skip


@register.simple_tag
@lru_cache(maxsize=1024)  # a page of the gallery has dozens
def art(name: str) -> str:
    """Draw the placeholder picture of a name."""
    return render_to_string("components/art.html", {"tiles": charts.tiles(name)})


@register.filter
def tone(status: str) -> str:
    """Return the colour class of a status."""
    return _TONES.get(str(status), "calm")


@register.filter
def words(value: str) -> str:
    """Write a code name as words: `text-to-image` is "Text to image"."""
    return str(value).replace("-", " ").replace("_", " ").capitalize()


@register.filter
def host(url: str) -> str:
    """Return whose server a URL names; its path is often a secret."""
    return urlsplit(url).hostname or ""


@register.filter
def took(job: Job) -> str:
    """Write how long a job took from submission to its end."""
    if job.finished_at is None:
        return ""
    return seconds((job.finished_at - job.created_at).total_seconds())


@register.filter
def seconds(value: float) -> str:
    """Write a duration: 0.42 s, 12.3 s, 3 min 20 s."""
    if value < 1:
        return f"{value:.2f} s"
    if value < 60:
        return f"{value:.1f} s"
    return f"{int(value) // 60} min {int(value) % 60} s"


@register.filter
def milliseconds(value: float) -> str:
    """Write a duration in milliseconds the way `seconds` does."""
    return seconds(value / 1000)


@register.filter
def moment(value: datetime | None) -> str:
    """Write a point in time, in UTC."""
    return "" if value is None else f"{value:%-d %b %Y, %H:%M} UTC"


@register.filter
def described(text: str) -> SafeString:
    """Render a vendor's Markdown."""
    return markdown.render_description(text)


@register.filter
def ref(version: Version) -> str:
    """Write a version as vendor/name:number."""
    return str(version)


@register.filter
def plain(number: str) -> str:
    """Write a decimal string without trailing zeros."""
    return f"{Decimal(number).normalize():f}"


@register.simple_tag
def current(path: str, prefix: str, *, exact: bool = False) -> SafeString | str:
    """Return the attribute that marks the link to the page one is on."""
    here = path == prefix if exact else path.startswith(prefix)
    return SafeString('aria-current="page"') if here else ""


@register.simple_tag
def sparkline(points: Sequence[float] | None, top: float | None = None) -> str:
    """Return the path of a line through `points` in a box of 100 × 30; nothing below two."""
    return charts.line(points or (), top or None)
