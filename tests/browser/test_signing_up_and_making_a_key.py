"""Signing up, confirming and making a key: the pages of a visitor's beginning, without a worker."""

import re

import pytest
from django.core import mail

from marketplace.accounts.models import ApiKey
from tests.cast import make_cast


@pytest.fixture
def cast(page):
    return make_cast()


def test_from_visitor_to_key(page, cast):
    page.goto("/")
    page.get_by_role("link", name="Sign up").click()
    page.get_by_label("Email").fill("new@example.org")
    page.get_by_label("Password").fill("correct horse battery")
    page.get_by_role("button", name="Sign Up").click()
    page.wait_for_url("**/confirm-email/")

    link = re.search(r"http\S+/accounts/confirm-email/\S+", mail.outbox[-1].body)[0]
    page.goto(link)
    page.get_by_role("button", name="Confirm").click()
    page.wait_for_url("**/models/atelier/sketch/#try")
    assert page.get_by_text("You have $1.00 of free credit").is_visible()
    page.get_by_label("Prompt", exact=True).fill("a red circle")
    page.get_by_label("Num images", exact=True).fill("3")
    page.locator("#quote").get_by_text("$0.012").wait_for()

    page.goto("/dashboard/keys/")
    page.get_by_label("Name").fill("first")
    page.get_by_role("button", name="Make key").click()
    secret = page.locator("#secret").text_content()
    assert secret.startswith("mk_")
    assert ApiKey.objects.get(name="first").prefix == secret[:9]
    page.goto("/dashboard/keys/")
    assert page.locator("#secret").count() == 0
