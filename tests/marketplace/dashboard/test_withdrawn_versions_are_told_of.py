"""A version that ends says when and what to use instead; once it has ended it is not shown."""

from datetime import timedelta
from decimal import Decimal

import pytest

from marketplace.catalog import rollouts, services
from marketplace.catalog.rollout_models import Retirement
from marketplace.core.clock import now
from tests.cast import SCHEMA

PAGE, VERSIONS = "/models/atelier/sketch/", "/v1/models/atelier/sketch/versions"


@pytest.fixture
def second(cast):
    version = services.version_create(
        model=cast.version.model,
        weights_uri="starter:starter-image",
        weights_digest="sha256:" + "1" * 64,
        family="flux",
        input_schema=SCHEMA,
        licence=cast.licence,
    )
    services.price_set(version=version, unit="image", unit_price=Decimal("0.000001"))
    services.version_submit(version=version)
    version.refresh_from_db()
    return services.version_decide(version=version, after="listed", by=cast.sam)


def test_its_end_is_shown_before_it_and_the_version_is_gone_after_it(client, cast, second):
    end = now() + timedelta(days=9)
    rollouts.deprecate(version=cast.version, ends_at=end, note="Take number two.")
    page, told = client.get(PAGE).text, client.get(VERSIONS).json()
    assert "Take number two." in page
    assert [(row["number"], row["end_note"]) for row in told] == [(2, ""), (1, "Take number two.")]
    assert [bool(row["ends_at"]) for row in told] == [False, True]
    Retirement.objects.update(ends_at=now() - timedelta(seconds=1))
    page, told = client.get(PAGE).text, client.get(VERSIONS).json()
    assert "atelier/sketch:1<" not in page
    assert "atelier/sketch:2<" in page
    assert [row["number"] for row in told] == [2]


def test_the_page_says_what_a_bare_name_means(client, cast, second):
    rollouts.promote(version=cast.version)
    page = " ".join(client.get(PAGE).text.split())
    assert '<code>atelier/sketch:1</code> <span class="pill calm">stable</span>' in page
    assert "now means version 1. Name a number" in page
    rollouts.canary_set(version=second, percent=50)
    page = " ".join(client.get(PAGE).text.split())
    assert "now means version 1, or for a share of callers version 2" in page
    assert '<code>atelier/sketch:2</code> <span class="pill">canary</span>' in page
