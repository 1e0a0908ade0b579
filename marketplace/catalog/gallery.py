"""Finds models in the gallery: words, task, licence, price, speed; and in which order."""

from dataclasses import dataclass

from django.contrib.postgres.search import SearchQuery, SearchRank, SearchVector
from django.db import models
from django.db.models import F, OuterRef, Q, QuerySet, Subquery

from marketplace.catalog import selectors
from marketplace.catalog.models import LicenceKind, Model, Status, Version


class Use(models.TextChoices):
    """What the results may be used for, as people ask for it."""

    COMMERCIAL = "commercial", "Commercial use"
    OPEN = "open", "Open licence"
    BUILD = "build", "Others may build on it"


class Order(models.TextChoices):
    """Orders of the gallery."""

    POPULAR = "popular", "Most used"
    CHEAPEST = "cheapest", "Cheapest"
    FASTEST = "fastest", "Fastest"
    NEWEST = "newest", "Newest"


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody looks for; what is empty does not matter.

    `most_nano` bounds the price of one output at the default settings, `most_ms` how long it
    ran in the middle. A model whose price or speed is not known fits no bound.
    """

    text: str = ""
    task: str = ""
    use: str = ""
    most_nano: int | None = None
    most_ms: int | None = None
    order: str = Order.POPULAR


_DOCUMENT = (
    SearchVector("title", "name", weight="A", config="english")
    + SearchVector("org__name", "org__slug", weight="B", config="english")
    + SearchVector("summary", weight="C", config="english")
)
_USES = {
    Use.COMMERCIAL: Q(licence_kind__in=[LicenceKind.OPEN, LicenceKind.COMMERCIAL]),
    Use.OPEN: Q(licence_kind=LicenceKind.OPEN),
    Use.BUILD: Q(licence_kind=LicenceKind.OPEN) | Q(royalty_bps__gt=0),
}
_ORDERS = {
    Order.POPULAR: F("standing__calls_per_day").desc(nulls_last=True),
    Order.CHEAPEST: F("standing__output_nano").asc(nulls_last=True),
    Order.FASTEST: F("standing__median_ms").asc(nulls_last=True),
}


def _with_terms(rows: "QuerySet[Model]") -> "QuerySet[Model]":
    """Name the licence of the version that a call would get: the newest listed one."""
    newest = Version.objects.filter(model=OuterRef("pk"), status=Status.LISTED).order_by("-number")
    return rows.annotate(
        licence_kind=Subquery(newest.values("licence__kind")[:1]),
        royalty_bps=Subquery(newest.values("licence__royalty_bps")[:1]),
    )


def _matching(rows: "QuerySet[Model]", text: str) -> "QuerySet[Model]":
    """Keep what has every word, or a form of it: `painting` finds a model that paints."""
    query = SearchQuery(text, config="english", search_type="websearch")
    parts = selectors.contains(text)
    rows = rows.annotate(document=_DOCUMENT, rank=SearchRank(_DOCUMENT, query))
    return rows.filter(Q(document=query) | parts)


def gallery(wish: Wish) -> "QuerySet[Model]":
    """Return public models that fit, in order, with organisations, versions and standings."""
    rows = selectors.models_public().select_related("org", "standing")
    order: list[object] = [_ORDERS[Order(wish.order)]] if wish.order in _ORDERS else []
    if wish.text:
        rows = _matching(rows, wish.text)
        if wish.order == Order.POPULAR:
            order.insert(0, F("rank").desc())
    if wish.task:
        rows = rows.filter(task=wish.task)
    if wish.use in _USES:
        rows = _with_terms(rows).filter(_USES[Use(wish.use)])
    if wish.most_nano is not None:
        rows = rows.filter(standing__output_nano__lte=wish.most_nano)
    if wish.most_ms is not None:
        rows = rows.filter(standing__median_ms__lte=wish.most_ms)
    return rows.order_by(*order, "-created_at", "-pk")  # type: ignore[arg-type]
