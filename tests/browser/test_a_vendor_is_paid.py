"""A vendor opens an account on Stripe's page, reads a statement, and sees that it is paid."""

from datetime import UTC, date, datetime
from unittest.mock import patch

import pytest
from django.utils import timezone

from billing import payouts
from billing.models import PayoutAccount
from billing.statements.close import statement_close
from tests.billing.statements.market import buyer, call
from tests.browser.conftest import OUT
from tests.cast import make_cast
from tests.stripe_standin import shared_standin, standin

__all__ = ["shared_standin", "standin"]
USD = 10**9
SCREENS = {"light": ("light", 1280), "dark": ("dark", 1280), "phone": ("light", 360)}


@pytest.fixture
def alice(page, site, client, settings, standin):
    """A browser in which Alice, who sells, is signed in; her market talks to the stand-in."""
    settings.STRIPE_API_KEY, settings.STRIPE_API_BASE = "sk_test_x", standin.url
    policy = settings.CONTENT_SECURITY_POLICY["DIRECTIVES"]
    settings.CONTENT_SECURITY_POLICY = {
        "DIRECTIVES": policy | {"form-action": ["'self'", standin.url]}
    }
    page.context.route("**/favicon.ico", lambda route: route.fulfill(status=204))
    cast = make_cast()
    client.force_login(cast.alice)
    cookie = client.cookies["sessionid"]
    page.context.add_cookies([{"name": "sessionid", "value": cookie.value, "url": site}])
    return cast


def test_from_onboarding_to_payout(page, alice, standin):
    page.goto("/vendor/payouts/")
    page.get_by_label("Country").fill("fr")
    page.get_by_role("button", name="Open an account at Stripe").click()
    page.get_by_role("button").first.click()  # on Stripe's page: all is told
    page.wait_for_url("**/vendor/payouts/")
    assert page.get_by_text("Your account can be paid.").is_visible()
    assert PayoutAccount.objects.get(org=alice.vendor).country == "FR"

    payer = buyer("fred", prepaid=100 * USD, country="FR")
    late = buyer("pat", limit=100 * USD, country="DE")
    for who, amount in ((payer, 40 * USD + 3), (late, 10 * USD)):
        moment = datetime(2026, 10, 20, tzinfo=UTC)
        call(who, amount, [(alice.vendor, 8000)], moment, version=alice.version.pk)
    with patch.object(timezone, "now", lambda: datetime(2026, 11, 4, tzinfo=UTC)):
        statement_close(org_id=alice.vendor.pk, month=date(2026, 10, 1))
    standin.control("POST", "balance", {"amount": 10_000})
    assert payouts.payouts_send() == 1

    page.goto("/vendor/earnings/")
    look(page, "earnings-statements")
    page.get_by_role("link", name="October 2026").click()
    assert page.get_by_text("Sent to your account at Stripe").is_visible()
    assert page.get_by_text("$8.00 more was pending").is_visible()
    with page.expect_download() as found:
        page.get_by_role("link", name="CSV of every call").click()
    assert found.value.suggested_filename == "S202610-000001.csv"
    look(page, "statement")
    page.goto("/vendor/payouts/")
    look(page, "payouts")


def look(page, name):
    """Save the page on every screen; nothing may stick out."""
    OUT.mkdir(parents=True, exist_ok=True)
    for screen, (scheme, width) in SCREENS.items():
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": width, "height": 900})
        assert not page.evaluate("document.documentElement.scrollWidth > innerWidth"), screen
        page.screenshot(path=OUT / f"{name}-{screen}.png", full_page=True)
    page.set_viewport_size({"width": 1280, "height": 900})
