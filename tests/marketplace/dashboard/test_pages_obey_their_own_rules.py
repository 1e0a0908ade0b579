"""Rules that hold on every page: no inline script or style, labels, one heading, our CSP."""

import re
from html.parser import HTMLParser

import pytest

PAGES = [
    "/",
    "/models/atelier/sketch/",
    "/pricing/",
    "/docs/jobs/",
    "/docs/api/",
    "/dashboard/",
    "/dashboard/jobs/",
    "/dashboard/keys/",
    "/dashboard/usage/",
    "/dashboard/webhooks/",
    "/dashboard/audit/",
    "/dashboard/billing/",
    "/dashboard/budgets/",
    "/dashboard/invoices/",
    "/dashboard/team/",
    "/dashboard/settings/",
    "/vendor/models/new/",
    "/vendor/licences/",
    "/accounts/2fa/",
    "/accounts/email/",
]


class Audit(HTMLParser):
    """Collects what a page must not have."""

    def __init__(self):
        super().__init__()
        self.problems, self.labelled, self.inputs, self.headings = [], set(), [], 0
        self.ids = []

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        if "style" in given or any(name.startswith("on") for name in given) or tag == "style":
            self.problems.append(("inline", tag, given))
        if tag == "script" and "src" not in given and given.get("type") != "application/json":
            self.problems.append(("inline script", given))
        if tag == "label" and "for" in given:
            self.labelled.add(given["for"])
        kinds = ("hidden", "submit")
        if tag in ("input", "select", "textarea") and given.get("type") not in kinds:
            self.inputs.append((given.get("id"), "aria-label" in given))
        if tag == "img" and "alt" not in given:
            self.problems.append(("no alt", given))
        self.headings += tag == "h1"
        if "id" in given:
            self.ids.append(given["id"])


@pytest.mark.parametrize("path", PAGES)
def test_a_page_is_clean(bob, make_job, path):
    make_job()
    answer = bob.get(path)
    audit = Audit()
    audit.feed(answer.content.decode())
    assert audit.problems == []
    unlabelled = [name for name, has in audit.inputs if not has and name not in audit.labelled]
    assert unlabelled == []
    assert audit.headings == 1
    assert len(audit.ids) == len(set(audit.ids))
    assert "unsafe-inline" not in answer["Content-Security-Policy"]
    assert "script-src 'self'" in answer["Content-Security-Policy"]


def test_one_link_of_the_rail_says_where_one_is(bob, cast):
    page = bob.get("/dashboard/usage/").content.decode()
    rail = page[page.index("rail-links") : page.index("</nav>", page.index("rail-links"))]
    marked = re.findall(r'<a href="([^"]+)" aria-current="page"', rail)
    assert marked == ["/dashboard/usage/"]


def test_the_stripe_stand_in_is_named_on_every_page(visitor, settings, cast):
    assert b"Stripe stand-in" not in visitor.get("/").content
    settings.STRIPE_API_BASE = "http://127.0.0.1:1"
    for path in ("/", "/docs/", "/accounts/login/"):
        assert b"Stripe stand-in: no money moves." in visitor.get(path).content


def test_billing_says_that_events_wait_without_stripe(bob, cast):
    page = bob.get("/dashboard/billing/").content
    assert b"Stripe is not configured here" in page
    assert b"outbox" in page
