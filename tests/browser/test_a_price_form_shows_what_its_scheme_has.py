"""A vendor sets a price in a real browser: only the fields of the scheme are in sight."""

import pytest
from django.test import Client

from marketplace.catalog.models import Price
from tests.cast import make_cast

FIELDS = ("unit_price", "package_size", "tiers", "ends_on")


@pytest.fixture
def vendor(page, site, settings):
    """Alice's page: her session is brought along."""
    client = Client()
    client.force_login(make_cast().alice)
    name = settings.SESSION_COOKIE_NAME
    page.context.add_cookies([{"name": name, "value": client.cookies[name].value, "url": site}])
    return page


@pytest.mark.parametrize(
    ("scheme", "seen"),
    [
        ("flat", {"unit_price"}),
        ("graduated", {"tiers"}),
        ("volume", {"tiers"}),
        ("package", {"unit_price", "package_size"}),
    ],
)
def test_a_scheme_shows_its_fields(vendor, scheme, seen):
    vendor.goto("/vendor/models/sketch/versions/1/")
    vendor.select_option("#id_scheme", scheme)
    shown = {name for name in FIELDS if vendor.locator(f"#id_{name}").is_visible()}
    assert shown == seen


def test_a_negotiated_volume_price_is_set(vendor):
    vendor.goto("/vendor/models/sketch/versions/1/")
    vendor.select_option("#id_scheme", "volume")
    vendor.locator("#id_tiers").fill("10: 0.003\nmore: 0.002")
    vendor.locator("#id_for_org").fill("builders")
    vendor.locator("#id_ends_on").fill("2096-12-31")
    vendor.get_by_role("button", name="Set price").click()
    vendor.get_by_role("button", name="Withdraw the price of Bob's Builders").wait_for()
    made = Price.objects.order_by("-created_at").first()
    assert (made.scheme, made.org.slug, made.ends_at.year) == ("volume", "builders", 2097)
    vendor.get_by_role("button", name="Withdraw the price of Bob's Builders").click()
    vendor.get_by_text("pays the public price again").wait_for()
    assert vendor.get_by_role("heading", name="Negotiated").count() == 0
