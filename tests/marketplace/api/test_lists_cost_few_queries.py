"""The gallery and a model's versions cost the same queries however many there are."""

from decimal import Decimal

from django.db import connection
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from marketplace.catalog import services
from marketplace.catalog.models import Status
from tests.cast import SCHEMA, listed_version


def cost(url):
    with CaptureQueriesContext(
        connection,
    ) as queries:
        answer = APIClient().get(url)
    assert answer.status_code == 200
    return len(queries), answer.json()


def another_version(cast, price):
    version = services.version_create(
        model=cast.version.model, weights_uri="starter:starter-image",
        weights_digest="sha256:" + "0" * 64, family="flux", input_schema=SCHEMA,
        licence=cast.licence, base=cast.version,
    )  # fmt: skip
    services.price_set(version=version, unit="image", unit_price=Decimal(price))
    services.version_submit(version=version)
    version.refresh_from_db()
    return services.version_decide(version=version, after=Status.LISTED, by=cast.sam)


def test_the_gallery(cast):
    few, _ = cost("/v1/models")
    for n in range(1, 5):
        listed_version(
            cast.vendor, cast.licence, cast.sam,
            name=f"tune{n}", price=f"0.00{n}", base=cast.version,
        )  # fmt: skip
    many, found = cost("/v1/models")
    assert many == few
    told = [
        (m["version"]["price"]["unit_price_usd"], m["version"]["base"]) for m in found["results"]
    ]
    base = "atelier/sketch:1"
    assert told == [
        ("0.004", base), ("0.003", base), ("0.002", base), ("0.001", base), ("0.004", None),
    ]  # fmt: skip


def test_the_versions_of_a_model(cast):
    url = "/v1/models/atelier/sketch/versions"
    few, _ = cost(url)
    for n in range(1, 4):
        another_version(cast, f"0.00{n}")
    many, found = cost(url)
    assert many == few
    assert [v["price"]["unit_price_usd"] for v in found] == ["0.003", "0.002", "0.001", "0.004"]
