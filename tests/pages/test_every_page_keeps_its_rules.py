"""Every page of the URL conf: plain valid HTML, a strict CSP, few queries whatever it lists."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tests.pages.fixtures import market
from tests.pages.html import problems_of
from tests.pages.market import market_fill
from tests.pages.routes import Site

__all__ = ["market"]
# Hundreds of pages: a busy machine may take its time.
pytestmark = [
    pytest.mark.django_db,
    pytest.mark.timeout(600),
]  # what is made for the whole module is committed before
MOST = 20
MANY = 25
SLACK = 3  # the first row of some kind may need a look-up; a query a row makes 23 more


@pytest.fixture(scope="module")
def site(market):
    return Site(market)


@pytest.fixture(scope="module")
def found(site):
    return site.find()


@pytest.fixture(scope="module")
def pages(found):
    return found[0]


@pytest.fixture(scope="module")
def main_pages(pages):
    """Each address once, for the first audience that is shown it."""
    return list({page.path: page for page in reversed(pages)}.values())[::-1]


@pytest.fixture(scope="module")
def queries(site, main_pages, market):
    """How many queries each page makes, with two rows of everything and with many.

    All were opened before: what a process keeps is kept.
    """
    few = {page: count(site, page) for page in main_pages}
    market_fill(market, MANY)
    return {page: (few[page], count(site, page)) for page in main_pages}


def count(site, page):
    with CaptureQueriesContext(connection) as captured:
        assert site.get(page).status_code == 200, page
    return len(captured)


def test_every_route_has_an_example(found):
    pages, wrong = found
    assert not wrong, "\n".join(wrong)
    assert len(pages) > 100  # the table finds pages at all


def test_every_page_is_plain_valid_html(site, pages):
    faults = [
        f"{page} {page.path}: {problem}"
        for page in pages
        for problem in problems_of(site.shown[page].content.decode())
    ]
    assert not faults, "\n".join(faults)


def test_every_page_has_a_strict_csp(site, pages):
    lax = []
    for page in pages:
        policy = site.shown[page].headers.get("Content-Security-Policy", "")
        rules = dict(rule.strip().partition(" ")[::2] for rule in policy.split(";"))
        scripts = rules.get("script-src", rules.get("default-src", ""))
        styles = rules.get("style-src", rules.get("default-src", ""))
        if "unsafe-" in policy or scripts != "'self'" or styles != "'self'":
            lax.append(f"{page}: {policy}")
    assert not lax, "\n".join(lax)


def test_no_page_makes_many_queries(queries):
    faults = [f"{page}: {many} queries" for page, (_, many) in queries.items() if many > MOST]
    assert not faults, "\n".join(faults)


def test_no_list_costs_a_query_for_each_row(queries):
    faults = [
        f"{page}: {few} queries with 2 rows, {many} with {MANY}"
        for page, (few, many) in queries.items()
        if many > few + SLACK
    ]
    assert not faults, "\n".join(faults)
