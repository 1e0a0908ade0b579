"""The cast of a simulated month: vendors with models that build on each other, and customers."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import Any

from billing import services as billing
from billing import wallets
from marketplace.accounts import services as accounts
from marketplace.accounts.models import ApiKey, Organisation, User
from marketplace.catalog import services as catalog
from marketplace.catalog.models import Licence, Status, Version, Visibility
from marketplace.core.clock import now
from marketplace.core.money import to_nano

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "prompt": {"type": "string", "maxLength": 1000},
        "num_images": {"type": "integer", "minimum": 1, "maximum": 4, "default": 1},
        "width": {"type": "integer", "minimum": 64, "maximum": 2048, "default": 512},
        "height": {"type": "integer", "minimum": 64, "maximum": 2048, "default": 512},
        "num_inference_steps": {"type": "integer", "minimum": 1, "maximum": 50, "default": 4},
    },
    "required": ["prompt"],
    "additionalProperties": False,
}
UNITS = ("image", "megapixel", "gpu_second", "step")


@dataclass(slots=True)
class Customer:
    """One who calls: with an organisation, keys and a way to pay."""

    org: Organisation
    key: ApiKey
    postpaid: bool


@dataclass(slots=True)
class Cast:
    """Everybody in the month."""

    staff: User
    vendors: list[Organisation] = field(default_factory=list)
    versions: list[Version] = field(default_factory=list)
    customers: list[Customer] = field(default_factory=list)


def _person(name: str, **extra: Any) -> User:
    return User.objects.create_user(f"{name}@simulated.example", None, **extra)


def _price(rng: random.Random) -> dict[str, Any]:
    unit = rng.choice(UNITS)
    price = Decimal(rng.randint(1, 400_000)) / 10_000_000
    tiers = [
        {"up_to": "2", "unit_price": str(price)},
        {"up_to": None, "unit_price": str(price * Decimal("0.7"))},
    ]
    return {
        "unit": unit,
        "unit_price": price,
        "minimum": Decimal(rng.choice((0, 0, 3))) / 10_000,
        "tiers": rng.choice(([], tiers)),
    }


def reprice(rng: random.Random, version: Version) -> None:
    """Give a version a new price: jobs already submitted keep theirs."""
    catalog.price_set(version=version, **_price(rng))


def licence_of(rng: random.Random, org: Organisation) -> Licence:
    """Write the next number of a vendor's licence."""
    return catalog.licence_create(
        org=org,
        slug="terms",
        title="Terms",
        kind="commercial",
        text=f"Share it fairly. Written at {now().isoformat()}.",
        revenue_share_bps=rng.choice((6000, 7500, 8000, 9000)),
        royalty_bps=rng.choice((0, 500, 1000, 1500)),
    )


def list_version(rng: random.Random, cast: Cast, org: Organisation, base: Version | None) -> None:
    """List a model, derived from `base` if there is one."""
    number = len(cast.versions)
    model = catalog.model_create(
        org=org,
        name=f"model-{number}",
        title=f"Model {number}",
        task="text-to-image",
        visibility=Visibility.PUBLIC,
    )
    version = catalog.version_create(
        model=model,
        licence=licence_of(rng, org),
        base=base,
        weights_uri="starter:starter-image",
        weights_digest=base.weights_digest if base else f"sha256:{number:064x}",
        family="flux",
        input_schema=SCHEMA,
    )
    reprice(rng, version)
    catalog.version_submit(version=version)
    version.refresh_from_db()
    cast.versions.append(
        catalog.version_decide(version=version, after=Status.LISTED, by=cast.staff)
    )


def _fund(rng: random.Random, customer: Customer) -> None:
    """Give money in one of the ways that there are, or several."""
    org = customer.org.pk
    if rng.random() < 0.4:
        days = rng.choice((3, 10, 60))
        billing.credit_grant(
            org_id=org,
            amount_nano=to_nano(str(rng.randint(1, 30) / 10)),
            source=f"welcome:{org}",
            expires_at=now() + timedelta(days=days),
            priority=rng.choice((10, 50)),
        )
    if customer.postpaid:
        wallets.credit_limit_set(org_id=org, limit_nano=to_nano(str(rng.randint(5, 60))))
    else:
        billing.credit_top_up(
            org_id=org, amount_nano=to_nano(str(rng.randint(1, 20))), source=f"first:{org}"
        )
    if rng.random() < 0.3:
        wallets.shard_count_set(org_id=org, count=rng.choice((2, 4, 8)))


def populate(rng: random.Random, *, customers: int) -> Cast:
    """Make everybody."""
    cast = Cast(staff=_person("staff", is_staff=True, is_superuser=True))
    for number in range(max(3, customers // 4)):
        owner = _person(f"vendor-{number}")
        cast.vendors.append(
            accounts.organisation_create(
                name=f"Vendor {number}", owner=owner, slug=f"vendor-{number}"
            )
        )
    for number, org in enumerate(cast.vendors * 2):
        base = rng.choice(cast.versions) if number >= 2 and rng.random() < 0.6 else None
        list_version(rng, cast, org, base)
    for number in range(customers):
        owner = _person(f"customer-{number}")
        org = accounts.organisation_create(
            name=f"Customer {number}", owner=owner, slug=f"customer-{number}"
        )
        key, _ = accounts.api_key_create(
            org=org,
            name="programs",
            scopes=["run", "read"],
            created_by=owner,
            monthly_budget_nano=to_nano("2") if rng.random() < 0.3 else None,
        )
        customer = Customer(org, key, postpaid=rng.random() < 0.5)
        cast.customers.append(customer)
        _fund(rng, customer)
    return cast
