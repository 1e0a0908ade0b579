"""Every address of the console is closed to all but staff with a second factor in this session."""

import re

import pytest
from allauth.mfa.totp.internal.auth import TOTP, generate_totp_secret
from django.test import Client
from django.urls import URLPattern, URLResolver

from marketplace.console.site import console
from tests.cast import person, staff_sign_in

pytestmark = pytest.mark.django_db
NIL = "00000000-0000-0000-0000-000000000000"
ARGUMENTS = {"uuid": NIL, "int": "1", "slug": "x", "str": "x", "path": "1"}
DOORS = {"login", "logout", "password_change", "password_change_done"}


def addresses(patterns, prefix="/console/"):
    """Return every address below the console, with arguments that fit."""
    for pattern in patterns:
        place = prefix + re.sub(
            r"<(\w+):\w+>", lambda found: ARGUMENTS[found[1]], str(pattern.pattern)
        ).replace("^", "").replace("(?P<app_label>", "(").replace("(?P<url>.*)$", "nothing")
        place = re.sub(r"\((\w+)(\|[^)]*)?\)\/?\$?$", r"\1/", place)
        if isinstance(pattern, URLResolver):
            yield from addresses(pattern.url_patterns, place)
        elif isinstance(pattern, URLPattern) and pattern.name not in DOORS:
            yield place


@pytest.fixture
def places():
    found = sorted(set(addresses(console.get_urls())))
    assert len(found) > 150
    assert "/console/" in found
    assert f"/console/story/{NIL}/" in found
    assert "/console/billing/charge/" in found
    return found


def visitor():
    return Client()


def customer():
    browser = Client()
    browser.force_login(person("customer"))
    return browser


def staff_without_a_factor():
    browser = Client()
    browser.force_login(person("plain", is_staff=True, is_superuser=True))
    return browser


def staff_who_did_not_show_it():
    user = person("forgetful", is_staff=True, is_superuser=True)
    TOTP.activate(user, generate_totp_secret())
    browser = Client()
    browser.force_login(user)
    return browser


def staff_no_more():
    user = person("former", is_staff=True, is_superuser=True)
    browser = Client()
    staff_sign_in(browser, user)
    user.is_staff = user.is_superuser = False
    user.save()
    return browser


@pytest.mark.parametrize(
    "who",
    [visitor, customer, staff_without_a_factor, staff_who_did_not_show_it, staff_no_more],
    ids=lambda who: who.__name__,
)
def test_nobody_else_sees_any_page(places, who):
    browser = who()
    for place in places:
        for answer in (browser.get(place), browser.post(place)):
            assert answer.status_code == 302, place
            assert answer["Location"].startswith("/console/login/"), place


def test_staff_are_led_to_set_a_factor_up_or_to_show_it():
    door = "/console/login/?next=/console/fleet/"
    assert staff_without_a_factor().get(door)["Location"] == "/accounts/2fa/"
    shown = staff_who_did_not_show_it().get(door)["Location"]
    assert shown == "/accounts/2fa/reauthenticate/?next=%2Fconsole%2Ffleet%2F"
    elsewhere = staff_no_more().get("/console/login/?next=https://evil.example/")
    assert elsewhere.status_code == 403


def test_staff_with_a_factor_but_no_permission_see_no_rows(places, staff, cast):
    browser = staff()
    for place in places:
        answer = browser.get(place)
        if answer.status_code == 200:
            page = answer.content.decode()
            assert cast.developer.name not in page, place
            assert cast.bob.email not in page, place
        else:
            assert answer.status_code in (302, 403, 404, 405), place


def test_every_page_opens_for_a_superuser(places, sam):
    broken = [place for place in places if sam.get(place).status_code >= 500]
    assert broken == []
