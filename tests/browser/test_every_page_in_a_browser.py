"""Every page in Chromium: axe-core finds nothing, the console is silent, nothing sticks out."""

import pytest
from django.test import override_settings
from pytest_django.live_server_helper import LiveServer

from marketplace.core.storage import storage
from tests.browser.visits import DESKTOP, PHONE, Visitor, survey
from tests.pages.fixtures import market
from tests.pages.routes import Site

__all__ = ["market"]
pytestmark = [pytest.mark.django_db, pytest.mark.timeout(1500)]


@pytest.fixture(scope="module")
def url(market, browser):
    """The address of a server of the populated market."""
    server = LiveServer("localhost")
    with override_settings(PUBLIC_URL=server.url, CSRF_TRUSTED_ORIGINS=[server.url]):
        server._live_server_modified_settings.enable()
        storage.cache_clear()  # its links begin with PUBLIC_URL
        yield server.url
        server.stop()
        server._live_server_modified_settings.disable()
        storage.cache_clear()


@pytest.fixture(scope="module")
def site(market):
    return Site(market)


@pytest.fixture(scope="module")
def pages(site):
    """Every page for each audience, sorted so that one signs in after the other."""
    return sorted(site.find()[0], key=lambda page: page.audience)


@pytest.fixture(scope="module")
def main_pages(pages, site):
    """One page of each template, for the first audience that is shown it."""
    order = ["visitor", "bob", "alice", "sam", "charlie", "dora"]
    ranked = sorted(pages, key=lambda page: order.index(page.audience), reverse=True)
    once = {_template(site.shown[page], page): page for page in ranked}.values()
    return sorted(once, key=lambda page: page.audience)


def _template(answer, page):
    """Return what draws a page; the console's tables are all drawn alike."""
    return next((used.name for used in answer.templates if used.name), page.path)


@pytest.fixture
def visitor(browser, url, site, request):
    opened = Visitor(browser, url, site, **getattr(request, "param", {}))
    yield opened
    opened.close()


def fit(visitor):
    """Look at a page on a desktop, and whether it fits on a phone."""
    return visitor.axe() + visitor.too_wide(DESKTOP) + visitor.too_wide(PHONE)


def test_main_pages_are_accessible_silent_and_fit_a_phone(visitor, main_pages):
    faults = survey(visitor, main_pages, fit)
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("visitor", [{"java_script_enabled": False}], indirect=True)
def test_every_page_reads_without_scripts(visitor, main_pages):
    faults = survey(visitor, main_pages, Visitor.unreadable)
    assert not faults, "\n".join(faults)


@pytest.mark.slow
def test_every_page_for_everyone(visitor, pages):
    faults = survey(visitor, pages, fit)
    assert not faults, "\n".join(faults)


@pytest.mark.slow
@pytest.mark.parametrize("visitor", [{"color_scheme": "dark"}], indirect=True)
def test_every_page_in_the_dark(visitor, pages):
    faults = survey(visitor, pages, fit)
    assert not faults, "\n".join(faults)


@pytest.mark.slow
def test_every_page_on_a_phone(visitor, pages):
    visitor.viewport = PHONE
    faults = survey(visitor, pages, Visitor.axe)
    assert not faults, "\n".join(faults)
