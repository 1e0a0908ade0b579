"""A small market to begin with: a vendor, a second one that builds on it, a developer, staff.

Everything goes through the same services that people use. Names and passwords are derived from
the installation's secret, so that each run of the seed prints the same ones.
"""

import hashlib
import hmac
import json
import subprocess
import sys
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from allauth.account.models import EmailAddress
from django.conf import settings
from django.db import transaction

from billing import services as billing
from inference.protocol import EXTENSIONS
from marketplace.accounts import services as accounts
from marketplace.accounts import tokens
from marketplace.accounts.models import ApiKey, Organisation, User
from marketplace.catalog import services as catalog
from marketplace.catalog.models import Licence, Model, Status, Version, Visibility
from marketplace.catalog.samples import sample_put
from marketplace.console.demo_schemas import clip_schema, picture_schema
from marketplace.core.money import to_nano
from marketplace.jobs.standings import standings_refresh

STARTER = "starter-image"
STARTER_VIDEO = "starter-video"
STARTER_LORA = "starter-night"
OPEN_TERMS = """You may run this model for any purpose, commercial or not, and use its outputs
freely. Models derived from it may be sold on this market; of their revenue the royalty stated
beside this text is due. No warranty of any kind is given."""
STUDIO_TERMS = """You may run this model for any purpose and use its outputs freely. It is built
on a base model whose vendor receives a royalty from each call. No warranty is given."""


@dataclass(frozen=True, slots=True)
class Login:
    """Who can sign in after seeding."""

    role: str
    email: str
    password: str


def _derive(label: str, length: int = 16) -> str:
    key = hashlib.sha256(b"mercato.demo:" + settings.SECRET_KEY.encode()).digest()
    return hmac.new(key, label.encode(), hashlib.sha256).hexdigest()[:length]


def _login(role: str, *, staff: bool = False) -> tuple[User, Login]:
    email, password = f"{role}@demo.example", _derive(role)
    user = User.objects.filter(email=email).first()
    if user is None:
        make = User.objects.create_superuser if staff else User.objects.create_user
        user = make(email, password, name=role.capitalize())
        EmailAddress.objects.create(user=user, email=email, verified=True, primary=True)
    return user, Login(role, email, password)


def _org(slug: str, name: str, owner: User) -> Organisation:
    found = Organisation.objects.filter(slug=slug).first()
    return found or accounts.organisation_create(name=name, owner=owner, slug=slug)


def _key(org: Organisation, user: User, label: str) -> str:
    """Return the demo key: a token like any other, but derived, so that it can be shown again."""
    body = tokens.KEY_PREFIX + _derive(label, 32)
    secret = tokens.with_checksum(body)
    if not ApiKey.objects.filter(digest=tokens.digest(secret)).exists():
        key, _ = accounts.api_key_create(
            org=org, name="Demo", scopes=["run", "read", "admin"], created_by=user
        )
        ApiKey.objects.filter(pk=key.pk).update(
            digest=tokens.digest(secret), prefix=secret[: tokens.VISIBLE]
        )
    return secret


def _shipped(name: str) -> dict[str, Any]:
    """Ask the GPU plane what ships with it: it alone reads weights."""
    answer = subprocess.run(
        [sys.executable, "-m", "inference", "models", "--json"],
        capture_output=True,
        text=True,
        check=True,
        cwd=settings.BASE_DIR,
    )
    models: list[dict[str, Any]] = json.loads(answer.stdout)
    return next(model for model in models if model["name"] == name)


def _samples(version: Version) -> None:
    """Give a draft the outputs that were drawn with it (`marketplace.local.samples`)."""
    folder = settings.BASE_DIR / "marketplace" / "local" / "outputs"
    index = json.loads((folder / "outputs.json").read_text())
    kinds = {f".{ending}": kind for kind, ending in EXTENSIONS.items()}
    for entry in index.get(version.model.name, []):
        file = folder / entry["file"]
        kind = kinds[file.suffix]
        sample_put(
            version=version,
            content=file.read_bytes(),
            content_type=kind,
            given=entry["input"],
            width=entry["width"],
            height=entry["height"],
            seconds=entry.get("seconds"),
        )


def _list(version: Version, staff: User) -> None:
    _samples(version)
    catalog.version_submit(version=version)
    version.refresh_from_db()
    catalog.version_decide(version=version, after=Status.LISTED, by=staff)


def _base_model(org: Organisation, staff: User) -> Version:
    shipped = _shipped(STARTER)
    listed = Version.objects.filter(
        model__org=org, model__name=STARTER, weights_digest=shipped["digest"], status=Status.LISTED
    ).first()
    if listed is not None:
        return listed
    licence = Licence.objects.for_org(org).filter(slug="open").first() or catalog.licence_create(
        org=org,
        slug="open",
        title="Starter open licence",
        kind="open",
        text=OPEN_TERMS,
        revenue_share_bps=8000,
        royalty_bps=1500,
    )
    model = Model.objects.for_org(org).filter(name=STARTER).first() or catalog.model_create(
        org=org,
        name=STARTER,
        title="Starter Image",
        task="text-to-image",
        summary="Draws coloured shapes where you say. Small enough to run on a laptop's CPU.",
        description=(
            "A flow-matching transformer of our own, trained from nothing by a script in this "
            "repository. It knows circles, squares and triangles in six colours, above, below "
            "and beside each other, on three backgrounds. Its model card states how often an "
            "automatic judge finds the picture right."
        ),
        visibility=Visibility.PUBLIC,
    )
    version = catalog.version_create(
        model=model,
        weights_uri=f"starter:{STARTER}",
        weights_digest=shipped["digest"],
        family=shipped["family"],
        input_schema=picture_schema(steps=8, max_steps=50),
        licence=licence,
    )
    catalog.price_set(version=version, unit="image", unit_price=Decimal("0.004"))
    _list(version, staff)
    return version


def _video_model(org: Organisation, staff: User, licence: Licence) -> None:
    shipped = _shipped(STARTER_VIDEO)
    digest = shipped["digest"]
    versions = Version.objects.filter(model__org=org, model__name=STARTER_VIDEO)
    if versions.filter(weights_digest=digest, status=Status.LISTED).exists():
        return
    model = Model.objects.for_org(org).filter(name=STARTER_VIDEO).first() or catalog.model_create(
        org=org,
        name=STARTER_VIDEO,
        title="Starter Video",
        task="text-to-video",
        summary="Moves a coloured shape the way you say: two seconds of video, on a CPU.",
        description=(
            "A small Wan-class transformer of our own, trained from nothing by a script in this "
            "repository. It knows circles, squares and triangles in six colours that move left, "
            "right, up or down, or stand still, on three backgrounds. Its model card states how "
            "often an automatic judge finds the clip right."
        ),
        visibility=Visibility.PUBLIC,
    )
    version = catalog.version_create(
        model=model,
        weights_uri=f"starter:{STARTER_VIDEO}",
        weights_digest=digest,
        family=shipped["family"],
        input_schema=clip_schema(),
        licence=licence,
    )
    catalog.price_set(version=version, unit="output_second", unit_price=Decimal("0.005"))
    _list(version, staff)


def _lora(org: Organisation, base: Version, staff: User) -> None:
    """List the LoRA that ships: it runs on the weights of the picture starter."""
    shipped = _shipped(STARTER_LORA)
    digest = shipped["digest"]
    versions = Version.objects.filter(model__org=org, model__name=STARTER_LORA)
    if versions.filter(weights_digest=digest, status=Status.LISTED).exists():
        return
    model = Model.objects.for_org(org).filter(name=STARTER_LORA).first() or catalog.model_create(
        org=org,
        name=STARTER_LORA,
        title="Starter Night",
        task="text-to-image",
        summary="A LoRA of Starter Image: whatever background you ask for, it is night.",
        description=(
            "Changes 0.1 MB of the weights of Starter Image so that each scene is on black. Its "
            "model card states how often, and what that costs."
        ),
        visibility=Visibility.PUBLIC,
    )
    version = catalog.version_create(
        model=model,
        weights_uri=shipped["uri"],
        weights_digest=digest,
        family=base.family,
        input_schema=base.input_schema,
        licence=base.licence,
        base=base,
        lora=True,
    )
    catalog.price_set(version=version, unit="image", unit_price=Decimal("0.005"))
    _list(version, staff)


def _derived_model(org: Organisation, base: Version, staff: User) -> None:
    """A second vendor sells the same weights as a preset: fewer steps at a lower price."""
    if Version.objects.filter(model__org=org, weights_digest=base.weights_digest).exists():
        return
    licence = Licence.objects.for_org(org).filter(slug="studio").first() or (
        catalog.licence_create(
            org=org,
            slug="studio",
            title="Studio licence",
            kind="commercial",
            text=STUDIO_TERMS,
            revenue_share_bps=8500,
        )
    )
    model = Model.objects.for_org(org).filter(name="quick-sketch").first() or (
        catalog.model_create(
            org=org,
            name="quick-sketch",
            title="Quick Sketch",
            task="text-to-image",
            summary="Starter Image in four steps: a draft at less than half the price.",
            description=(
                "The weights of Starter Image with a preset of four steps. Each call pays its "
                "royalty to the vendor of Starter Image."
            ),
            visibility=Visibility.PUBLIC,
        )
    )
    version = catalog.version_create(
        model=model,
        weights_uri=base.weights_uri,
        weights_digest=base.weights_digest,
        family=base.family,
        input_schema=picture_schema(steps=4, max_steps=4),
        licence=licence,
        base=base,
    )
    catalog.price_set(
        version=version,
        unit="image",
        unit_price=Decimal("0.0015"),
        tiers=[
            {"up_to": "2", "unit_price": "0.0015"},
            {"up_to": None, "unit_price": "0.001"},
        ],
    )
    _list(version, staff)


def _noop_model(org: Organisation, staff: User) -> str:
    """A free-of-engine model that measures the market itself; unlisted, never in the gallery."""
    model = Model.objects.for_org(org).filter(name="noop").first()
    if model is None:
        shipped = _shipped("noop")
        model = catalog.model_create(
            org=org,
            name="noop",
            title="No-op",
            task="text-to-image",
            summary="Returns a constant picture at once, to measure everything around a model.",
            visibility=Visibility.UNLISTED,
        )
        version = catalog.version_create(
            model=model,
            weights_uri=shipped["uri"],
            weights_digest=shipped["digest"],
            family=shipped["family"],
            input_schema=picture_schema(steps=1, max_steps=1),
            licence=Licence.objects.for_org(org).get(slug="open"),
        )
        catalog.price_set(version=version, unit="image", unit_price=Decimal("0.0001"))
        _list(version, staff)
    return model.ref


@transaction.atomic
def seed(*, noop: bool = False) -> dict[str, Any]:
    """Make what is absent. Returns the logins, the API key and the model to begin with."""
    staff, staff_login = _login("staff", staff=True)
    vendor, vendor_login = _login("vendor")
    studio, studio_login = _login("studio")
    developer, developer_login = _login("developer")
    lab = _org("starter-lab", "Starter Lab", vendor)
    base = _base_model(lab, staff)
    _video_model(lab, staff, base.licence)
    _lora(lab, base, staff)
    _derived_model(_org("quick-studio", "Quick Studio", studio), base, staff)
    buyer = _org("pixel-forge", "Pixel Forge", developer)
    billing.credit_grant(org_id=buyer.pk, amount_nano=to_nano("5"), source=f"seed:{buyer.pk}")
    standings_refresh()  # the gallery sorts by price from its first minute on
    logins = [developer_login, vendor_login, studio_login, staff_login]
    extra = {"noop_model": _noop_model(lab, staff)} if noop else {}
    return extra | {
        "logins": [
            {"role": login.role, "email": login.email, "password": login.password}
            for login in logins
        ],
        "api_key": _key(buyer, developer, "api-key"),
        "vendor_api_key": _key(lab, vendor, "vendor-api-key"),
        "model": f"{lab.slug}/{STARTER}",
    }
