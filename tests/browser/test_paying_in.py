"""From "Add money" over Stripe's page to a receipt, in a real browser and under the real CSP."""

import pytest

from billing.models import TopUp
from billing.selectors import balance_of
from marketplace.core.money import to_nano
from tests.browser.conftest import OUT
from tests.cast import make_cast
from tests.stripe_standin import shared_standin, standin

__all__ = ["shared_standin", "standin"]


@pytest.fixture
def cast(page, site, standin, settings, client):
    """Bob, signed in, at an installation that talks to the stand-in."""
    settings.STRIPE_API_KEY, settings.STRIPE_API_BASE = "sk_test_x", standin.url
    # What the settings make of STRIPE_API_BASE when it is in the environment.
    policy = settings.CONTENT_SECURITY_POLICY["DIRECTIVES"]
    settings.CONTENT_SECURITY_POLICY = {
        "DIRECTIVES": {**policy, "form-action": ["'self'", standin.url]}
    }
    made = make_cast()
    client.force_login(made.bob)
    cookie = client.cookies["sessionid"]
    page.context.add_cookies([{"name": "sessionid", "value": cookie.value, "url": site}])
    return made


def test_from_the_form_to_the_receipt(page, cast):
    OUT.mkdir(parents=True, exist_ok=True)
    page.goto("/dashboard/billing/")
    page.screenshot(path=OUT / "add-money.png", full_page=True)
    page.get_by_role("button", name="$25").click()
    page.get_by_text("This is not Stripe").wait_for()
    page.get_by_role("button", name="4242").click()
    page.get_by_role("heading", name="Receipt").wait_for()
    assert page.get_by_text("The money is on your balance.").is_visible()
    page.screenshot(path=OUT / "receipt.png", full_page=True)
    assert balance_of(cast.developer.pk).prepaid_nano == to_nano("26")


def test_who_leaves_stripes_page_is_told_that_nothing_was_charged(page, cast):
    page.goto("/dashboard/billing/")
    page.get_by_label("Amount in USD").fill("12.5")
    page.get_by_role("button", name="Pay with Stripe").click()
    page.get_by_role("button", name="Go back").click()
    page.get_by_text("Nothing was charged").wait_for()
    page.screenshot(path=OUT / "left.png", full_page=True)
    assert TopUp.objects.get().state == "pending"


def test_a_card_is_saved_and_shown(page, cast):
    page.goto("/dashboard/billing/recharge/")
    page.get_by_role("button", name="Save a card").click()
    page.get_by_role("button", name="4242").click()
    page.get_by_text("Visa •••• 4242").wait_for()
    page.get_by_label("Recharge automatically").check()
    page.get_by_label("When less than this is available, USD").fill("5")
    page.get_by_label("Charge, USD").fill("20")
    page.get_by_role("button", name="Save", exact=True).click()
    page.get_by_text("It is on.").wait_for()
    page.screenshot(path=OUT / "recharge.png", full_page=True)
