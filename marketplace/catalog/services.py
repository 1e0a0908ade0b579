"""Everything that changes listings: models, versions, prices, licences and their review."""

import hashlib
import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from django.core.exceptions import ValidationError
from django.db import IntegrityError, models, transaction
from django.db.models import Max

from billing.rating import PriceTerms, RatingError
from inference.protocol import MP4, PROFILE_KEYS, check_profile, output_type
from marketplace.accounts.models import Organisation, User
from marketplace.catalog import schemas, selectors, weights
from marketplace.catalog.models import (
    Licence,
    Model,
    Price,
    ReviewDecision,
    Status,
    Task,
    Unit,
    Version,
    Visibility,
)
from marketplace.core.clock import now
from marketplace.core.errors import InvalidInput, NotAllowed, NotFound, WrongState
from marketplace.core.ids import parse_id

_HARDWARE = re.compile(r"[a-z0-9][a-z0-9-]{0,19}")
_ALLOWED_MOVES = {
    (Status.SUBMITTED, Status.LISTED),
    (Status.SUBMITTED, Status.DRAFT),
    (Status.LISTED, Status.SUSPENDED),
    (Status.SUSPENDED, Status.LISTED),
}


def _save_checked(row: models.Model, taken: str) -> None:
    """Validate and insert `row`. Raises InvalidInput naming the bad fields, or `taken`."""
    try:
        row.full_clean(validate_unique=False, validate_constraints=False)
    except ValidationError as error:
        raise InvalidInput("Some fields are wrong.", fields=error.message_dict) from error
    try:
        with transaction.atomic():
            row.save(force_insert=True)
    except IntegrityError as error:
        raise InvalidInput(f"This {taken} is taken.", fields={taken: ["It is taken."]}) from error


def licence_create(
    *,
    org: Organisation,
    slug: str,
    title: str,
    kind: str,
    text: str,
    revenue_share_bps: int,
    royalty_bps: int = 0,
) -> Licence:
    """Write terms, or the next number of terms that exist under `slug`."""
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
    )
    _save_checked(licence, "slug")
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
    )
    _save_checked(model, "name")
    return model


def model_update(*, model: Model, **changes: Any) -> Model:
    """Change what a person reads of a listing (title, summary, description, visibility)."""
    if unknown := changes.keys() - {"title", "summary", "description", "visibility"}:
        raise InvalidInput("This cannot be changed.", fields={sorted(unknown)[0]: ["Fixed."]})
    for field, value in changes.items():
        setattr(model, field, value)
    try:
        model.clean_fields()
    except ValidationError as error:
        raise InvalidInput("Some fields are wrong.", fields=error.message_dict) from error
    model.save(update_fields=list(changes))
    return model


def _check_task(task: str, family: str) -> None:
    """Raise InvalidInput where the listing promises a clip and gets a picture, or the reverse."""
    makes_clips = output_type(family) == MP4
    if makes_clips != (task in (Task.TEXT_TO_VIDEO, Task.IMAGE_TO_VIDEO)):
        made = "videos" if makes_clips else "images"
        raise InvalidInput(
            f"This family makes {made}, and the model's task is {task}.",
            fields={"family": [f"It makes {made}, unlike the model's task."]},
        )


def _check_profile(profile: dict[str, Any]) -> None:
    """Raise InvalidInput unless workers can read the profile; a typo must not pass for nothing."""
    try:
        check_profile(profile)
        if unknown := sorted(set(profile) - set(PROFILE_KEYS)):
            raise ValueError(f"profile has no {unknown[0]}; it has {', '.join(PROFILE_KEYS)}")
    except ValueError as error:
        raise InvalidInput(str(error), fields={"profile": [str(error)]}) from error


def _check_lora(lora: bool, family: str, base: Version | None) -> None:
    """Raise InvalidInput where a LoRA lacks the model that it changes."""
    if base is not None and base.lora:
        why = "A LoRA cannot be a base; name the version that it changes."
        raise InvalidInput(why, fields={"base": [why]})
    if lora and base is None:
        why = "A LoRA needs the version that it changes as its base."
        raise InvalidInput(why, fields={"base": [why]})
    if lora and base is not None and base.family != family:
        why = f"A LoRA has the family of its base, {base.family}."
        raise InvalidInput(why, fields={"family": [why]})


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
    profile: dict[str, Any] | None = None,
    lora: bool = False,
    hardware_class: str = "small",
    max_engine_s: int = 120,
) -> Version:
    """Add the next version as a draft. What it contains never changes afterwards.

    A `lora` is a change to the weights of its base, and runs on them.
    """
    weights.check_uri(model.org, weights_uri, lora=lora)
    weights.check_family(family)
    weights.check_digest(weights_digest)
    _check_task(model.task, family)
    _check_profile(profile or {})
    schemas.check_schema(input_schema)
    if licence.org_id != model.org_id:
        raise InvalidInput("The licence is not yours.", fields={"licence": ["Not yours."]})
    if not _HARDWARE.fullmatch(hardware_class):
        raise InvalidInput(
            "There is no such hardware class.",
            fields={"hardware_class": ["Lower-case letters, digits and hyphens, such as small."]},
        )
    if (family == "noop") != (weights_uri == "noop:"):
        raise InvalidInput("Family and weights do not fit.", fields={"family": ["No such pair."]})
    if not 1 <= max_engine_s <= 3600:
        raise InvalidInput("The time limit is out of range.", fields={"max_engine_s": ["1–3600."]})
    if base is not None and not Version.objects.runnable_by(model.org).filter(pk=base.pk).exists():
        raise InvalidInput("There is no such base version.", fields={"base": ["Not found."]})
    _check_lora(lora, family, base)
    weights.check_owner(model.org, weights_uri, weights_digest, base)
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
    check_shares(version)
    _save_checked(version, "number")
    return version


def check_shares(version: Version) -> None:
    """Raise InvalidInput if the royalties of the chain exceed what the licence shares out."""
    royalties = sum(ancestor.licence.royalty_bps for ancestor in selectors.ancestors(version))
    if royalties > version.licence.revenue_share_bps:
        raise InvalidInput(
            f"The base versions are owed {royalties / 100:g} % of each charge, but the licence "
            f"shares out only {version.licence.revenue_share_bps / 100:g} %.",
            fields={"base": ["The royalty chain takes more than the licence shares out."]},
        )


def _check_length_is_known(version: Version) -> None:
    """Raise InvalidInput unless a quote can tell how long a clip of this version will be."""
    schema = version.input_schema
    for name in ("num_frames", "fps"):
        node = schema["properties"].get(name)
        known = isinstance(node, dict) and "default" in node
        if not known and name not in schema.get("required", []):
            why = f"Seconds can be quoted only if the input schema gives {name} a default."
            raise InvalidInput(why, fields={"unit": [why]})


def price_set(
    *,
    version: Version,
    unit: str,
    unit_price: Decimal,
    minimum: Decimal = Decimal(0),
    tiers: Sequence[dict[str, Any]] = (),
    by: User | None = None,
) -> Price:
    """Make this the price of jobs submitted from now on; jobs under way keep theirs."""
    if unit == Unit.OUTPUT_SECOND:
        _check_length_is_known(version)
    price = Price(
        version=version,
        unit=unit,
        unit_price=unit_price,
        minimum=minimum,
        tiers=list(tiers),
        created_by=by,
    )
    try:
        PriceTerms.from_parts(unit=unit, unit_price=unit_price, minimum=minimum, tiers=list(tiers))
    except RatingError as error:
        raise InvalidInput(str(error), fields={error.field: [str(error)]}) from error
    _save_checked(price, "price")
    return price


@transaction.atomic
def _move(version: Version, after: Status, by: User | None, note: str) -> Version:
    locked = Version.objects.select_for_update(of=("self",)).get(pk=version.pk)
    if locked.status == after:
        return locked
    ReviewDecision.objects.create(
        version=locked, before=locked.status, after=after, note=note, by=by
    )
    locked.status = after
    if after == Status.LISTED and locked.listed_at is None:
        locked.listed_at = now()
    locked.save(update_fields=["status", "listed_at"])
    return locked


def version_submit(*, version: Version, by: User | None = None) -> Version:
    """Ask staff to review a draft. Raises WrongState for another status or an absent price."""
    if version.status != Status.DRAFT:
        raise WrongState(f"Only a draft can be submitted; this version is {version.status}.")
    if selectors.price_current(version) is None:
        raise WrongState("Set a price first.")
    return _move(version, Status.SUBMITTED, by, "")


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
        check_shares(version)
        place, digest = version.weights_uri, version.weights_digest
        weights.check_owner(version.model.org, place, digest, version.base)
    return _move(version, after, by, note.strip())


def version_require(*, org: Organisation, version_id: object) -> Version:
    """Return a version of the organisation's own. Raises NotFound."""
    version = (
        Version.objects.for_org(org)
        .select_related("model__org", "licence")
        .filter(pk=parse_id(version_id))
        .first()
    )
    if version is None:
        raise NotFound("There is no such version.")
    return version
