"""Everything that changes listings: models, versions, prices, licences and their review."""

import hashlib
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Max

from billing.rating import FLAT, GRADUATED, MAX_QUANTITY, RatingError
from billing.split import ChainError
from marketplace.accounts import audit
from marketplace.accounts.models import Organisation, User
from marketplace.accounts.services import active_require
from marketplace.catalog import chains, schemas, selectors, version_checks, weights
from marketplace.catalog.models import (
    Category,
    Licence,
    Model,
    Price,
    ReviewDecision,
    Status,
    Unit,
    Version,
    VersionParent,
    Visibility,
)
from marketplace.catalog.negotiated import now_dearer, require_canary_no_dearer, require_no_dearer
from marketplace.catalog.rollout_models import Rollout
from marketplace.catalog.rows import save_checked
from marketplace.catalog.sample_models import SampleOutput
from marketplace.core import flags
from marketplace.core.clock import now
from marketplace.core.errors import InvalidInput, NotAllowed, WrongState

_EDITABLE = {"title", "summary", "description", "visibility", "category"}
_ALLOWED_MOVES = {
    (Status.SUBMITTED, Status.LISTED),
    (Status.SUBMITTED, Status.DRAFT),
    (Status.LISTED, Status.SUSPENDED),
    (Status.SUSPENDED, Status.LISTED),
}


def licence_create(
    *,
    org: Organisation,
    slug: str,
    title: str,
    kind: str,
    text: str,
    revenue_share_bps: int,
    royalty_bps: int = 0,
    needs_acceptance: bool = False,
) -> Licence:
    """Write terms, or the next number of terms that exist under `slug`."""
    if revenue_share_bps > (most := settings.MAX_REVENUE_SHARE_BPS):
        why = f"At most {most / 100:g} %: the market keeps the rest."
        raise InvalidInput("The share is too large.", fields={"revenue_share_bps": [why]})
    last = Licence.objects.for_org(org).filter(slug=slug).aggregate(n=Max("number"))["n"]
    licence = Licence(
        org=org,
        slug=slug,
        number=(last or 0) + 1,
        title=title,
        kind=kind,
        text=text,
        text_digest="sha256:" + hashlib.sha256(text.encode()).hexdigest(),
        revenue_share_bps=revenue_share_bps,
        royalty_bps=royalty_bps,
        needs_acceptance=needs_acceptance,
    )
    save_checked(licence, "slug")
    return licence


def model_create(
    *,
    org: Organisation,
    name: str,
    title: str,
    task: str,
    summary: str = "",
    description: str = "",
    visibility: str = Visibility.PRIVATE,
    category: str = Category.GENERAL,
) -> Model:
    """Create a listing without versions. Raises InvalidInput naming the field."""
    if name == "new":
        raise InvalidInput("This name cannot be used.", fields={"name": ["It is reserved."]})
    model = Model(
        org=org,
        name=name,
        title=title,
        task=task,
        summary=summary,
        description=description,
        visibility=visibility,
        category=category,
    )
    save_checked(model, "name")
    return model


def model_update(*, model: Model, **changes: Any) -> Model:
    """Change what a person reads of a listing (its texts, visibility, category)."""
    if unknown := changes.keys() - _EDITABLE:
        raise InvalidInput("This cannot be changed.", fields={sorted(unknown)[0]: ["Fixed."]})
    for field, value in changes.items():
        setattr(model, field, value)
    try:
        model.clean_fields()
    except ValidationError as error:
        raise InvalidInput("Some fields are wrong.", fields=error.message_dict) from error
    model.save(update_fields=list(changes))
    return model


@transaction.atomic
def version_create(
    *,
    model: Model,
    weights_uri: str,
    weights_digest: str,
    family: str,
    input_schema: dict[str, Any],
    licence: Licence,
    base: Version | None = None,
    parents: Sequence[Version] = (),
    profile: dict[str, Any] | None = None,
    lora: bool = False,
    hardware_class: str = "small",
    max_engine_s: int = 120,
) -> Version:
    """Add the next version as a draft. What it contains never changes afterwards.

    A `lora` is a change to the weights of its base, and runs on them. `parents` are what else it
    was made from: each of them, and of theirs, has its royalty.
    """
    weights.check_uri(model.org, weights_uri, lora=lora)
    weights.check_family(family)
    weights.check_digest(weights_digest)
    version_checks.check_task(model.task, family)
    version_checks.check_profile(profile or {})
    schemas.check_schema(input_schema)
    if licence.org_id != model.org_id:
        raise InvalidInput("The licence is not yours.", fields={"licence": ["Not yours."]})
    version_checks.check_machine(family, weights_uri, hardware_class, max_engine_s)
    version_checks.check_output_format(input_schema, family)
    version_checks.check_parents(model.org, base, parents)
    version_checks.check_lora(lora, family, base)
    made_from = [*([base] if base else []), *parents]
    weights.check_owner(model.org, weights_uri, weights_digest, made_from)
    Model.objects.select_for_update().get(pk=model.pk)
    last = Version.objects.filter(model=model).aggregate(n=Max("number"))["n"] or 0
    version = Version(
        model=model,
        number=last + 1,
        weights_uri=weights_uri,
        weights_digest=weights_digest,
        family=family,
        input_schema=schemas.with_order(input_schema),
        profile=profile or {},
        hardware_class=hardware_class,
        max_engine_s=max_engine_s,
        licence=licence,
        base=base,
        lora=lora,
    )
    check_shares(version, parents)
    save_checked(version, "number")
    VersionParent.objects.bulk_create(
        VersionParent(version=version, parent=parent, position=position)
        for position, parent in enumerate(parents)
    )
    return version


def check_shares(version: Version, parents: Sequence[Version] | None = None) -> chains.Chain:
    """Return the chain of a version. Raises InvalidInput if it cannot be paid.

    `parents` are those of a version that is not yet written.
    """
    try:
        return chains.chain_check(version, parents)
    except ChainError as error:
        field = "base" if version.base_id else "parents"
        raise InvalidInput(str(error), fields={field: [str(error)]}) from error


def _check_length_is_known(version: Version) -> None:
    """Raise InvalidInput unless a quote can tell how long a clip of this version will be."""
    schema = version.input_schema
    for name in ("num_frames", "fps"):
        node = schema["properties"].get(name)
        known = isinstance(node, dict) and "default" in node
        if not known and name not in schema.get("required", []):
            why = f"Seconds and frames are quoted only if the input schema has a default {name}."
            raise InvalidInput(why, fields={"unit": [why]})


def check_unit(version: Version, unit: str) -> None:
    """Raise InvalidInput unless a quote can tell how many units an input comes to at most."""
    if unit in (Unit.OUTPUT_SECOND, Unit.FRAME):
        _check_length_is_known(version)
    if unit == Unit.CHARACTER and "prompt" not in version.input_schema["properties"]:
        why = "Characters are those of the prompt, and the input schema has none."
        raise InvalidInput(why, fields={"unit": [why]})


@transaction.atomic
def price_set(
    *,
    version: Version,
    unit: str,
    unit_price: Decimal,
    minimum: Decimal = Decimal(0),
    tiers: Sequence[dict[str, Any]] = (),
    scheme: str = "",
    package_size: Decimal | None = None,
    free_quota: Decimal = Decimal(0),
    for_org: Organisation | None = None,
    ends_at: datetime | None = None,
    by: User | None = None,
) -> Price:
    """Make this the price of jobs submitted from now on; jobs under way keep theirs.

    With `for_org` it is the price of that organisation alone, before the public one and never
    above it, until `ends_at`; a public price ends negotiated ones that it undercuts. Raises
    InvalidInput naming the part that makes no sense.
    """
    active_require(version.model.org)
    check_unit(version, unit)
    scheme = scheme or (GRADUATED if tiers else FLAT)
    if ends_at is not None and for_org is None:
        raise InvalidInput("Only a negotiated price ends.", fields={"ends_at": ["Leave it empty."]})
    if not 0 <= free_quota <= MAX_QUANTITY:
        raise InvalidInput("The free quota is out of range.", fields={"free_quota": ["Too large."]})
    price = Price(
        version=version,
        org=for_org,
        ends_at=ends_at,
        unit=unit,
        scheme=scheme,
        unit_price=unit_price,
        package_size=package_size,
        minimum=minimum,
        tiers=list(tiers),
        free_quota=free_quota,
        created_by=by,
    )
    try:
        own = selectors.terms(price)
    except RatingError as error:
        raise InvalidInput(str(error), fields={error.field: [str(error)]}) from error
    if for_org is not None:
        require_no_dearer(price, own)
    rolling = Rollout.objects.select_related("stable").filter(canary=version).first()
    if for_org is None and rolling is not None:
        require_canary_no_dearer(rolling.stable, version, price)
    save_checked(price, "price")
    if for_org is None:
        for dear in now_dearer(version, price):
            assert dear.org is not None
            price_withdraw(version=version, for_org=dear.org, by=by)
    return price


def price_withdraw(*, version: Version, for_org: Organisation, by: User | None = None) -> Price:
    """End the price negotiated for `for_org`: from now on it pays the public one."""
    active_require(version.model.org)
    current = selectors.price_current(version, for_org)
    if current is None or current.org_id is None:
        raise WrongState(f"{for_org.name} has no price of its own for {version}.")
    ended = Price.objects.get(pk=current.pk)
    ended.pk, ended._state.adding = Price._meta.pk.get_default(), True
    ended.created_at = ended.ends_at = now()
    ended.created_by = by
    ended.save(force_insert=True)
    return ended


@transaction.atomic
def _move(version: Version, after: Status, by: User | None, note: str) -> Version:
    locked = Version.objects.select_for_update(of=("self",)).get(pk=version.pk)
    if locked.status == after:
        return locked
    if (locked.status, after) not in {*_ALLOWED_MOVES, (Status.DRAFT, Status.SUBMITTED)}:
        raise WrongState(f"A version that is {locked.status} cannot become {after}.")
    ReviewDecision.objects.create(
        version=locked, before=locked.status, after=after, note=note, by=by
    )
    locked.status = after
    if after == Status.LISTED and locked.listed_at is None:
        locked.listed_at = now()
    locked.save(update_fields=["status", "listed_at"])
    return locked


def version_submit(*, version: Version, by: User | None = None, tested: bool = False) -> Version:
    """Ask staff to review a draft. Raises WrongState for another status or an absent price.

    A person (`by`) submits only what was `tested` and has samples; the market's own need neither.
    """
    if version.status != Status.DRAFT:
        raise WrongState(f"Only a draft can be submitted; this version is {version.status}.")
    if selectors.price_current(version) is None:
        raise WrongState("Set a price first.")
    if by is not None and not (tested and SampleOutput.objects.filter(version=version).exists()):
        raise WrongState("Run a test and pick a sample first.")
    if not flags.is_on(flags.LISTINGS):
        raise WrongState("New versions are not taken just now; try again later.")
    active_require(version.model.org)
    return _move(version, Status.SUBMITTED, by, "")


@transaction.atomic
def version_take_back(*, version: Version, by: User) -> Version:
    """Make a version that waits for review a draft again. Raises WrongState once it is decided."""
    locked = Version.objects.select_for_update(of=("self",)).get(pk=version.pk)
    if locked.status != Status.SUBMITTED:
        raise WrongState(f"Only what waits for review can be taken back; it is {locked.status}.")
    audit.record(org=version.model.org, action="version.take_back", target=version)
    return _move(version, Status.DRAFT, by, "")


@transaction.atomic
def version_decide(*, version: Version, after: Status, by: User, note: str = "") -> Version:
    """List, send back, suspend or relist a version. Staff only; a refusal needs a note."""
    if not by.is_staff:
        raise NotAllowed("Only staff review versions.")
    if (version.status, after) not in _ALLOWED_MOVES:
        raise WrongState(f"A version that is {version.status} cannot become {after}.")
    if after != Status.LISTED and not note.strip():
        raise InvalidInput("Say why.", fields={"note": ["The vendor will read it."]})
    if after == Status.LISTED:
        made_from = check_shares(version).ancestors
        place, digest = version.weights_uri, version.weights_digest
        weights.check_owner(version.model.org, place, digest, made_from)
    return _move(version, after, by, note.strip())
