"""Reads of the catalogue: who sees which model, its current version, price and shares."""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.db.models import OuterRef, Prefetch, Q, QuerySet, Subquery

from billing.models import Grant
from billing.rating import PriceTerms
from billing.split import Share
from marketplace.accounts.models import Organisation
from marketplace.catalog.models import Licence, Model, Price, Status, Version
from marketplace.core.errors import NotFound, WrongState

MAX_CHAIN = 32


def ancestors(version: Version) -> list[Version]:
    """Return the base of a version, the base's base, and so on. Raises NotFound past 32."""
    found: list[Version] = []
    base_id = version.base_id
    while base_id is not None:
        if len(found) >= MAX_CHAIN:
            raise NotFound(f"The chain of base versions is longer than {MAX_CHAIN}.")
        base = Version.objects.select_related("licence", "model").get(pk=base_id)
        found.append(base)
        base_id = base.base_id
    return found


def shares(version: Version) -> list[Share]:
    """Return who is owed which part of each charge of `version`, nearest first.

    The version's own vendor comes first with what the royalties leave of the revenue share.
    """
    chain = [
        Share(org_id=str(a.model.org_id), bps=a.licence.royalty_bps, version_id=str(a.pk))
        for a in ancestors(version)
        if a.licence.royalty_bps
    ]
    own = version.licence.revenue_share_bps - sum(share.bps for share in chain)
    vendor = Share(org_id=str(version.model.org_id), bps=own, version_id=str(version.pk))
    return [vendor, *chain]


def price_current(version: Version) -> Price | None:
    """Return the newest price of a version."""
    return Price.objects.filter(version=version).order_by("-created_at", "-id").first()


def terms(price: Price) -> PriceTerms:
    """Return a price as the pure value that rating works on."""
    return PriceTerms.from_parts(
        unit=price.unit, unit_price=price.unit_price, minimum=price.minimum, tiers=price.tiers
    )


def _with_versions(queryset: Any) -> Any:
    newest = Price.objects.filter(version=OuterRef("pk")).order_by("-created_at", "-id")
    versions = Version.objects.select_related("licence", "base__model__org").annotate(
        price_id=Subquery(newest.values("pk")[:1])
    )
    return queryset.select_related("org").prefetch_related(Prefetch("versions", versions))


def models_public() -> "QuerySet[Model]":
    """Return the gallery, newest first, with organisations and versions loaded."""
    found: QuerySet[Model] = _with_versions(Model.objects.public()).order_by("-created_at")
    return found


def models_of(org: Any) -> "QuerySet[Model]":
    """Return an organisation's own listings."""
    found: QuerySet[Model] = _with_versions(Model.objects.for_org(org)).order_by("-created_at")
    return found


def model_get(*, vendor: str, name: str, org: Any | None) -> Model:
    """Return a model that `org` (or a visitor: None) may read. Raises NotFound."""
    model = (
        _with_versions(Model.objects.visible_to(org)).filter(org__slug=vendor, name=name).first()
    )
    if model is None:
        raise NotFound(f"There is no model {vendor}/{name}.")
    found: Model = model
    return found


def listed_version(model: Model) -> Version | None:
    """Return the newest listed version of a model whose versions are loaded."""
    return next((v for v in model.versions.all() if v.status == Status.LISTED), None)


def prices_of(models: "Iterable[Model]") -> dict[Any, Price]:
    """Return the current price of every loaded version of `models`, by version; one query."""
    versions: list[Any] = [v for model in models for v in model.versions.all()]
    ids = [v.price_id for v in versions if v.price_id]  # annotated by _with_versions
    return {price.version_id: price for price in Price.objects.filter(pk__in=ids)}


def versions_named(ids: "Iterable[Any]") -> dict[Any, Version]:
    """Return versions with their model and vendor, by id; one query."""
    rows = Version.objects.filter(pk__in=set(ids)).select_related("model__org")
    return {row.pk: row for row in rows}


def version_of(*, org: Any, name: str, number: int) -> Version:
    """Return a version of the organisation's own listing. Raises NotFound."""
    version: Version | None = (
        Version.objects.for_org(org)
        .filter(model__name=name, number=number)
        .select_related("model__org", "licence", "base__model__org")
        .first()
    )
    if version is None:
        raise NotFound(f"There is no version {number} of {name}.")
    return version


def licences_of(org: Any) -> "QuerySet[Licence]":
    """Return an organisation's licences, newest first."""
    return Licence.objects.for_org(org).order_by("-created_at", "-pk")


def version_runnable(*, ref: str, org: Any) -> Version:
    """Return the version that `vendor/name` or `vendor/name:number` names. Raises NotFound."""
    path, _, number = ref.partition(":")
    vendor, _, name = path.partition("/")
    versions = (
        Version.objects.runnable_by(org)
        .filter(model__org__slug=vendor, model__name=name)
        .select_related("model__org", "licence", "base")
        .order_by("-number")
    )
    if number:
        versions = (
            versions.filter(number=int(number))
            if number.isdecimal() and len(number) < 10
            else versions.none()
        )
    version: Version | None = versions.first()
    if version is None:
        raise NotFound(f"There is no model {ref!r} that you can run.", code="model_not_found")
    return version


def search(rows: "QuerySet[Model]", text: str) -> "QuerySet[Model]":
    """Keep models whose name, vendor, title or summary contains every word of `text`."""
    for word in text.split()[:8]:
        rows = rows.filter(
            Q(name__icontains=word)
            | Q(org__slug__icontains=word)
            | Q(title__icontains=word)
            | Q(summary__icontains=word)
        )
    return rows


@dataclass(frozen=True, slots=True)
class Offer:
    """A version that can be called, with the price and shares that a call now pins."""

    version: Version
    price: Price
    shares: tuple[Share, ...]


def _base_runs(version: Version) -> bool:
    """Tell whether the vendor of a LoRA may still call the version that it changes."""
    runnable = Version.objects.runnable_by(version.model.org)
    return version.base is not None and bool(runnable.filter(pk=version.base.pk).exists())


_offers: dict[tuple[str, str], tuple[float, Offer]] = {}
_OFFERS_MAX = 1024


def offer(*, ref: str, org: Organisation) -> Offer:
    """Return what `org` gets by calling `ref`. Raises NotFound, or WrongState without a price.

    Kept per process for OFFER_TTL_S: a new price or a suspension takes that long to reach every
    web process. What a job pins is what its quote was made from, so no charge can differ.
    """
    key, moment = (ref, str(org.pk)), time.monotonic()
    kept = _offers.get(key)
    if kept and kept[0] > moment:
        return kept[1]
    version = version_runnable(ref=ref, org=org)
    if version.lora and not _base_runs(version):
        raise WrongState("The model that this LoRA changes is not listed any more.")
    price = price_current(version)
    if price is None:
        raise WrongState("This model has no price yet.")
    made = Offer(version, price, tuple(shares(version)))
    if settings.OFFER_TTL_S > 0:
        if len(_offers) >= _OFFERS_MAX:
            _offers.clear()
        _offers[key] = (moment + settings.OFFER_TTL_S, made)
    return made


def grant_scopes(grants: "Iterable[Grant]") -> tuple[dict[Any, str], dict[Any, str]]:
    """Return the names of models (vendor/name) and of vendors that grants are limited to, by id."""
    rows = list(grants)
    models = Model.objects.filter(pk__in=[g.model_id for g in rows if g.model_id])
    vendors = Organisation.objects.filter(pk__in=[g.vendor_id for g in rows if g.vendor_id])
    return (
        {model.pk: model.ref for model in models.select_related("org")} if rows else {},
        {org.pk: org.slug for org in vendors} if rows else {},
    )
