"""The listing wizard's rules: each step is checked when it is saved, and may be saved again."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.db import transaction
from django.db.models import Q

from marketplace.accounts.models import Organisation, User
from marketplace.catalog import schemas, selectors, services, version_checks, weights
from marketplace.catalog.chains import Chain
from marketplace.catalog.listing_models import ListingDraft
from marketplace.catalog.models import Licence, Model, Price, Status, Version
from marketplace.catalog.samples import samples_of
from marketplace.catalog.shipped import shipped
from marketplace.core.clock import now
from marketplace.core.errors import InvalidInput, NotFound, WrongState

STEPS = ("about", "weights", "inputs", "terms", "test", "samples", "price", "review")


@dataclass(frozen=True, slots=True)
class Step:
    """One step: whether it is done, and whether those before it allow to open it."""

    name: str
    done: bool
    open: bool


@transaction.atomic
def listing_begin(*, org: Organisation, user: User, **about: Any) -> ListingDraft:
    """Create a model and the draft of its first version. Raises InvalidInput naming the field."""
    model = services.model_create(org=org, **about)
    return ListingDraft.objects.create(org=org, model=model, created_by=user)


@transaction.atomic
def listing_of(
    *, org: Organisation, name: str, user: User | None = None, write: bool = True
) -> ListingDraft:
    """Return the draft of a model's next version, begun from its newest one. Raises NotFound.

    Without `write` a draft that nobody has begun is only shown: it is not in the database.
    """
    rows = Model.objects.for_org(org).select_related("org")
    if write:
        rows = rows.select_for_update(of=("self",))
    model = rows.filter(name=name).first()
    if model is None:
        raise NotFound(f"There is no model {name}.")
    drafts = ListingDraft.objects.select_related("version__licence", "version__model__org")
    found = drafts.filter(model=model).first()
    if found is not None:
        found.model = model
        return found
    draft = ListingDraft(model=model, org=org, created_by=user)
    newest = model.versions.select_related("base__model__org", "licence", "model__org").first()
    if newest is not None:
        _copy(draft, newest)
    if write:
        _save(draft)
    return draft


def unfinished(org: Organisation) -> set[uuid.UUID]:
    """Return the models whose listing was begun and not submitted; one query."""
    rows = ListingDraft.objects.for_org(org)
    waiting = rows.filter(Q(version=None) | Q(version__status=Status.DRAFT))
    return set(waiting.values_list("model_id", flat=True))


def listing_renew(*, draft: ListingDraft) -> ListingDraft:
    """Begin the next version once the last one is listed: its parts are kept, to be changed."""
    if draft.version is not None and draft.version.status in (Status.LISTED, Status.SUSPENDED):
        _copy(draft, draft.version)
        draft.version = None
        _save(draft)
    return draft


def _copy(draft: ListingDraft, version: Version) -> None:
    draft.weights = {
        "uri": version.weights_uri,
        "digest": version.weights_digest,
        "lora": version.lora,
    }
    draft.inputs = {
        "family": version.family,
        "schema": version.input_schema,
        "profile": version.profile,
        "hardware_class": version.hardware_class,
        "max_engine_s": version.max_engine_s,
    }
    draft.terms = {
        "licence": str(version.licence_id),
        "base": str(version.base) if version.base else "",
        "parents": [str(parent) for parent in selectors.parents_of(version)],
    }
    if version.status in (Status.DRAFT, Status.SUBMITTED):
        draft.version = version


def _save(draft: ListingDraft) -> None:
    draft.updated_at = now()
    draft.save()


def _change(draft: ListingDraft, part: str, values: dict[str, Any]) -> None:
    """Keep a part; a version that was made with another one is none of this draft's any more."""
    if draft.version is not None and draft.version.status != Status.DRAFT:
        raise WrongState("Staff are reviewing this version; it cannot be changed now.")
    if getattr(draft, part) != values:
        setattr(draft, part, values)
        draft.version = None
    _save(draft)


def weights_set(*, draft: ListingDraft, uri: str, digest: str, lora: bool = False) -> None:
    """Say where the weights are. The digest of what ships is looked up; others are given."""
    uri = uri.strip()
    weights.check_uri(draft.org, uri, lora=lora)
    known = shipped().get(uri)
    if known is not None:
        if digest and digest != known["digest"]:
            why = f"What ships under this address has the digest {known['digest']}."
            raise InvalidInput(why, fields={"weights_digest": [why]})
        digest = known["digest"]
    elif uri.startswith("starter:") and not digest and shipped():
        names = ", ".join(sorted(name for name in shipped() if name.startswith("starter:")))
        why = f"Nothing ships under this address. There is {names}."
        raise InvalidInput(why, fields={"weights_uri": [why]})
    weights.check_digest(digest.strip())
    _change(draft, "weights", {"uri": uri, "digest": digest.strip(), "lora": lora})


def inputs_set(
    *,
    draft: ListingDraft,
    family: str,
    schema: dict[str, Any],
    hardware_class: str,
    max_engine_s: int,
    profile: dict[str, Any] | None = None,
) -> None:
    """Say what a call may ask for, and which workers answer it."""
    weights.check_family(family)
    version_checks.check_task(draft.model.task, family)
    version_checks.check_profile(profile or {})
    schemas.check_schema(schema)
    uri = draft.weights.get("uri", "")
    version_checks.check_machine(family, uri, hardware_class, max_engine_s)
    version_checks.check_output_format(schema, family)
    values = {
        "family": family,
        "schema": schema,
        "profile": profile or {},
        "hardware_class": hardware_class,
        "max_engine_s": max_engine_s,
    }
    # PostgreSQL's jsonb keeps no order of keys, and the form has one.
    _change(draft, "inputs", {**values, "schema": schemas.with_order(schema)})


def _named(org: Organisation, ref: str, field: str) -> Version:
    try:
        return selectors.version_runnable(ref=ref, org=org)
    except NotFound as error:
        raise InvalidInput(error.message, fields={field: [error.message]}) from error


def _made_from(
    draft: ListingDraft, base: str, parents: Sequence[str]
) -> tuple[Version | None, list[Version]]:
    found = _named(draft.org, base, "base") if base else None
    return found, [_named(draft.org, ref, "parents") for ref in parents]


def chain_preview(
    *, draft: ListingDraft, licence: Licence, base: str = "", parents: Sequence[str] = ()
) -> tuple[Version, list[Version]]:
    """Return a version that is not written, and its parents, to work out who would get what."""
    found, others = _made_from(draft, base, parents)
    version_checks.check_parents(draft.org, found, others)
    # A number that no version has: nothing of this is saved.
    version = Version(model=draft.model, number=0, licence=licence, base=found)
    return version, others


def terms_set(
    *, draft: ListingDraft, licence: Licence, base: str = "", parents: Sequence[str] = ()
) -> Chain:
    """Choose the licence and what the version was made from. Raises InvalidInput if over-committed.

    References are kept with their numbers: what is made from a version stays made from it.
    """
    if licence.org_id != draft.org_id:
        raise InvalidInput("The licence is not yours.", fields={"licence": ["Not yours."]})
    version, others = chain_preview(draft=draft, licence=licence, base=base, parents=parents)
    if "family" in draft.inputs:
        lora = bool(draft.weights.get("lora"))
        version_checks.check_lora(lora, draft.inputs["family"], version.base)
    chain = services.check_shares(version, others)
    values = {
        "licence": str(licence.pk),
        "base": str(version.base) if version.base else "",
        "parents": [str(parent) for parent in others],
    }
    _change(draft, "terms", values)
    return chain


@transaction.atomic
def version_ensure(*, draft: ListingDraft) -> Version:
    """Return the version that the draft describes, made now if its parts have changed."""
    rows = ListingDraft.objects.select_related("version__licence", "version__model__org")
    locked = rows.select_for_update(of=("self",)).get(pk=draft.pk)
    for part in ("weights", "inputs", "terms", "version"):
        setattr(draft, part, getattr(locked, part))  # another request may have changed them
    if draft.version is not None:
        return draft.version
    for part in ("weights", "inputs", "terms"):
        if not getattr(draft, part):
            raise WrongState(f"Fill in the step “{part}” first.")
    base, parents = _made_from(draft, draft.terms["base"], draft.terms["parents"])
    before = draft.model.versions.filter(status=Status.DRAFT).first()
    draft.version = services.version_create(
        model=draft.model,
        weights_uri=draft.weights["uri"],
        weights_digest=draft.weights["digest"],
        lora=draft.weights.get("lora", False),
        family=draft.inputs["family"],
        input_schema=schemas.plain(draft.inputs["schema"]),
        profile=draft.inputs["profile"],
        hardware_class=draft.inputs["hardware_class"],
        max_engine_s=draft.inputs["max_engine_s"],
        licence=Licence.objects.for_org(draft.org).get(pk=draft.terms["licence"]),
        base=base,
        parents=parents,
    )
    _save(draft)
    price = selectors.price_current(before) if before is not None else None
    if price is not None:
        _carry(price, draft.version)
    return draft.version


def _carry(price: Price, version: Version) -> None:
    """Give a draft the price of the one that it replaces, if its inputs still allow it."""
    try:
        services.price_set(
            version=version,
            unit=price.unit,
            unit_price=price.unit_price,
            minimum=price.minimum,
            tiers=price.tiers,
            scheme=price.scheme,
            package_size=price.package_size,
            free_quota=price.free_quota,
            by=price.created_by,
        )
    except InvalidInput:
        return  # the vendor is asked for a price again


def steps_of(draft: ListingDraft, *, tested: bool) -> list[Step]:
    """Return the steps with what is done; each can be opened once those before it are."""
    version = draft.version
    priced = version is not None and selectors.price_current(version) is not None
    done = {
        "about": True,
        "weights": bool(draft.weights),
        "inputs": bool(draft.inputs),
        "terms": bool(draft.terms),
        "test": tested,
        "samples": version is not None and bool(samples_of([version])),
        "price": priced,
        "review": version is not None and version.status != Status.DRAFT,
    }
    found: list[Step] = []
    may_open = True
    for name in STEPS:
        # Samples need a test run and a price does not.
        found.append(Step(name, done[name], may_open))
        may_open = may_open and done[name]
    return found


def listing_submit(*, draft: ListingDraft, by: User, tested: bool) -> Version:
    """Ask staff to review the draft. Raises WrongState naming the first step that is not done."""
    for step in steps_of(draft, tested=tested)[:-1]:
        if not step.done:
            raise WrongState(f"The step “{step.name}” is not done yet.")
    assert draft.version is not None
    return services.version_submit(version=draft.version, by=by, tested=tested)
