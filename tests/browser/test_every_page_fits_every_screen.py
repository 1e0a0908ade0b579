"""Main pages in light, dark and on a 360 px phone: no error, nothing sticks out."""

from datetime import timedelta

import pytest

from billing import alerts
from billing.services import credit_grant
from marketplace.accounts import projects
from marketplace.catalog.models import Version
from marketplace.core.clock import now
from marketplace.dashboard import figures
from marketplace.jobs import services
from marketplace.jobs.models import Job
from tests.browser.conftest import fits
from tests.cast import make_cast, report_finished, report_started
from tests.figures import write_results

PAGES = {
    "gallery": "/",
    "model": "/models/atelier/sketch/",
    "pricing": "/pricing/",
    "docs": "/docs/quickstart/",
    "api": "/docs/api/",
    "dashboard": "/dashboard/",
    "jobs": "/dashboard/jobs/",
    "keys": "/dashboard/keys/",
    "usage": "/dashboard/usage/",
    "webhooks": "/dashboard/webhooks/",
    "audit": "/dashboard/audit/",
    "invoices": "/dashboard/invoices/",
    "billing": "/dashboard/billing/",
    "billing-details": "/dashboard/billing/profile/",
    "recharge": "/dashboard/billing/recharge/",
    "budgets": "/dashboard/budgets/",
    "team": "/dashboard/team/",
    "settings": "/dashboard/settings/",
    "vendor": "/vendor/",
    "licences": "/vendor/licences/",
    "earnings": "/vendor/earnings/",
    "security": "/accounts/2fa/",
}


@pytest.fixture
def market(page, monkeypatch, tmp_path):
    """Return a cast with a job that has ended, and a model that has been measured."""
    cast = make_cast()
    write_results(tmp_path, Version.objects.get(model__name="sketch").weights_digest)
    monkeypatch.setattr(figures, "RESULTS", tmp_path)
    cast.key.project = projects.project_create(
        org=cast.developer, name="Film", monthly_budget_nano=10**7
    )
    cast.key.monthly_budget_nano = 5 * 10**6
    cast.key.save()
    projects.organisation_budget_set(org=cast.developer, monthly_budget_nano=12 * 10**9)
    credit_grant(
        org_id=cast.developer.pk,
        amount_nano=2 * 10**9,
        source="trial",
        expires_at=now() + timedelta(days=30),
        vendor_id=cast.vendor.pk,
        note="For trying it out",
    )
    made, _ = services.job_submit(
        org=cast.developer, ref=cast.ref, given={"prompt": "a red circle"}, api_key=cast.key
    )
    job = Job.objects.select_related("version__model__org").get(pk=made.pk)
    services.job_started(report_started(job))
    services.job_finished(report_finished(job))
    alerts.alerts_raise()
    return cast


def test_pages_fit(page, site, market, client):
    client.force_login(market.bob)
    cookie = client.cookies["sessionid"]
    page.context.add_cookies([{"name": "sessionid", "value": cookie.value, "url": site}])
    too_wide = []
    for name, path in PAGES.items():
        page.goto(path)
        too_wide += fits(page, name)
    assert too_wide == []


def test_pages_read_without_scripts(browser, site, market):
    context = browser.new_context(base_url=site, java_script_enabled=False)
    page = context.new_page()
    page.goto("/models/atelier/sketch/")
    for text in ("curl -s", "import json", "await fetch"):
        assert page.locator("#api ~ * pre", has_text=text).first.is_visible()
    assert page.get_by_text("$0.004 per image").first.is_visible()
    context.close()


def test_the_keyboard_reaches_everything_and_shows_where_it_is(page, market):
    page.goto("/")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to content"
    page.keyboard.press("Tab")
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
