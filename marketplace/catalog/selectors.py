"""Reads of the catalogue: who sees which model, its current version, price and shares."""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.db.models import Case, F, OuterRef, Prefetch, Q, QuerySet, Subquery, Value, When
from django.db.models.functions import Coalesce

from billing.models import Grant
from billing.rating import PriceTerms
from billing.split import Share
from marketplace.accounts.models import Organisation
from marketplace.catalog import chains, rollouts
from marketplace.catalog.models import Licence, Model, Price, Status, Version, Visibility
from marketplace.catalog.rollout_models import Retirement
from marketplace.core.clock import now
from marketplace.core.errors import NotFound, WrongState
from marketplace.core.ids import parse_id

_RESOLVED = 50
"""How many of a model's newest callable versions a bare name can mean."""


def _newest_for(version: Any, org: Any) -> Any:
    """Return the id of the newest price negotiated for `org`, null once it has ended."""
    rows = Price.objects.filter(version=version, org=org).order_by("-created_at", "-id")
    live = Case(When(ends_at__lte=now(), then=Value(None)), default=F("pk"))
    return rows.annotate(live=live).values("live")[:1]


def _price_id(version: Any, org: Any | None) -> Any:
    """Return the id of the price that `org` (or a visitor: None) pays."""
    public = Price.objects.filter(version=version, org=None).order_by("-created_at", "-id")
    found = Subquery(public.values("pk")[:1])
    return found if org is None else Coalesce(Subquery(_newest_for(version, org)), found)


def price_current(version: Version, org: Any | None = None) -> Price | None:
    """Return what `org` pays: the price negotiated for it while that lasts, else the public one."""
    if org is not None:
        mine = Price.objects.filter(version=version, org=org)
        found = mine.order_by("-created_at", "-id").first()
        if found is not None and (found.ends_at is None or found.ends_at > now()):
            return found
    public = Price.objects.filter(version=version, org=None)
    return public.order_by("-created_at", "-id").first()


def negotiated(version: Version) -> list[Price]:
    """Return the prices of single organisations that hold now, by their names."""
    rows = Price.objects.filter(version=version, org__isnull=False).select_related("org")
    newest = rows.order_by("org_id", "-created_at", "-id").distinct("org_id")
    held = [row for row in newest if row.ends_at is None or row.ends_at > now()]
    return sorted(held, key=lambda row: row.org.name if row.org else "")


def parents_of(version: Version) -> list[Version]:
    """Return what a version was made from besides its base, in its vendor's order."""
    links = version.parent_links.select_related("parent__model__org")
    return [link.parent for link in links]


def terms(price: Price) -> PriceTerms:
    """Return a price as the pure value that rating works on."""
    return PriceTerms.from_parts(
        unit=price.unit,
        unit_price=price.unit_price,
        minimum=price.minimum,
        tiers=price.tiers,
        scheme=price.scheme,
        package_size=price.package_size,
    )


def _with_versions(queryset: Any, org: Any | None = None) -> Any:
    versions = Version.objects.select_related("licence", "base__model__org", "retirement").annotate(
        price_id=_price_id(OuterRef("pk"), org)
    )
    versions = versions.prefetch_related("parent_links__parent__model__org")
    return queryset.select_related("org", "rollout").prefetch_related(
        Prefetch("versions", versions)
    )


def models_public() -> "QuerySet[Model]":
    """Return the gallery, newest first, with organisations and versions loaded."""
    found: QuerySet[Model] = _with_versions(Model.objects.public()).order_by("-created_at")
    return found


def models_of(org: Any) -> "QuerySet[Model]":
    """Return an organisation's own listings."""
    found: QuerySet[Model] = _with_versions(Model.objects.for_org(org)).order_by("-created_at")
    return found


def models_callable(org: Any) -> "QuerySet[Model]":
    """Return what a list shows `org` to call: public models and its own, newest first."""
    versions = Version.objects.runnable_by(org).filter(
        Q(model__visibility=Visibility.PUBLIC) | Q(model__org=org)
    )
    found: QuerySet[Model] = Model.objects.filter(pk__in=versions.values("model"))
    return found.select_related("org").order_by("-created_at", "-pk")


def model_get(*, vendor: str, name: str, org: Any | None) -> Model:
    """Return a model that `org` (or a visitor: None) may read. Raises NotFound."""
    model = (
        _with_versions(Model.objects.visible_to(org), org)
        .filter(org__slug=vendor, name=name)
        .select_related("org", "standing")
        .first()
    )
    if model is None:
        raise NotFound(f"There is no model {vendor}/{name}.")
    found: Model = model
    return found


def callable_versions(model: Model) -> list[Version]:
    """Return the listed versions of a loaded model whose end has not come, newest first."""
    moment = now()
    listed = [version for version in model.versions.all() if version.status == Status.LISTED]
    return [row for row in listed if not (end := retirement_of(row)) or end.ends_at > moment]


def listed_version(model: Model, org: Organisation | None = None) -> Version | None:
    """Return the version that a loaded model means to `org`, or to most callers (None)."""
    return rollouts.choose(
        callable_versions(model),
        getattr(model, "rollout", None),
        org.pk if org is not None else None,
    )


def retirement_of(version: Version) -> Retirement | None:
    """Return when a version ends and what to use instead, if its vendor has said so."""
    return getattr(version, "retirement", None)


def prices_of(models: "Iterable[Model]") -> dict[Any, Price]:
    """Return the price of every loaded version of `models` for who loaded them; one query."""
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
    """Return the version that `vendor/name` or `vendor/name:number` names. Raises NotFound.

    Without a number it is the one that the model's rollout gives `org`.
    """
    path, _, number = ref.partition(":")
    vendor, _, name = path.partition("/")
    versions = (
        Version.objects.runnable_by(org)
        .filter(model__org__slug=vendor, model__name=name)
        .select_related("model__org", "model__rollout", "licence", "base")
        .order_by("-number")
    )
    version: Version | None
    if not number:
        found = list(versions[:_RESOLVED])
        rollout = getattr(found[0].model, "rollout", None) if found else None
        version = rollouts.choose(found, rollout, getattr(org, "pk", org))
    else:
        versions = (
            versions.filter(number=int(number))
            if number.isdecimal() and len(number) < 10
            else versions.none()
        )
        version = versions.first()
    if version is None:
        raise NotFound(f"There is no model {ref!r} that you can run.", code="model_not_found")
    return version


def hardware_classes() -> list[str]:
    """Return the classes of hardware on which public models run, by name."""
    rows = Version.objects.filter(status=Status.LISTED, model__in=Model.objects.public())
    found = rows.order_by("hardware_class").values_list("hardware_class", flat=True)
    return list(found.distinct())


def ref_of(*, named: str, org: Any) -> str:
    """Return `vendor/name` or `vendor/name:number` of what is named so or by a version's id.

    Also `vendor/name:id`. Raises NotFound for an id that `org` cannot call.
    """
    path, _, version = named.rpartition(":")
    if version.isdecimal() and not path and len(version) < 10:
        raise NotFound(
            f"Version {version} of which model? Name it as vendor/name:{version}, or by its id.",
            code="model_not_found",
        )
    if "/" in named and (not path or version.isdecimal()):
        return named
    found = Version.objects.runnable_by(org).filter(pk=parse_id(version)).select_related(
        "model__org"
    ).first()  # fmt: skip
    if found is None or (path and found.model.ref != path):
        raise NotFound(
            f"There is no version {named!r} that you can run. Its id is on the model's page.",
            code="model_not_found",
        )
    return str(found)


def contains(text: str) -> Q:
    """Return what holds where name, vendor, title or summary contains every word of `text`."""
    found = Q()
    for word in text.split()[:8]:
        found &= (
            Q(name__icontains=word)
            | Q(org__slug__icontains=word)
            | Q(org__name__icontains=word)
            | Q(title__icontains=word)
            | Q(summary__icontains=word)
        )
    return found


def search(rows: "QuerySet[Model]", text: str) -> "QuerySet[Model]":
    """Keep models that contain every word of `text`."""
    return rows.filter(contains(text))


@dataclass(frozen=True, slots=True)
class Offer:
    """A version that can be called: the price and shares that a call pins, the terms that bind."""

    version: Version
    price: Price
    shares: tuple[Share, ...]
    licences: tuple[Licence, ...]


def base_runs(version: Version) -> bool:
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
    if version.lora and not base_runs(version):
        raise WrongState("The model that this LoRA changes is not listed any more.")
    price = price_current(version, org)
    if price is None:
        raise WrongState("This model has no price yet.")
    chain = chains.chain_of(version)
    made = Offer(version, price, chain.shares, tuple(chain.licences))
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
