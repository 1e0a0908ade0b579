"""The samples of a model's page: clients open one at a time, languages are tabs, on any screen."""

import pytest

from tests.browser.conftest import fits
from tests.cast import make_cast


@pytest.fixture
def ways(page):
    made = make_cast()
    page.goto(f"/models/{made.ref}/#api")
    return page.locator("section:has(> #api) .ways")


def test_one_client_is_open_at_a_time_and_one_language_of_it(page, ways):
    assert ways.locator("summary").count() == 5
    assert ways.locator("details[open] summary").inner_text().startswith("No client")
    assert ways.locator("pre:visible").count() == 1
    ways.locator("summary", has_text="fal's client").click()
    assert ways.locator("details[open]").count() == 1
    ways.get_by_role("tab", name="JavaScript").locator("visible=true").click()
    shown = ways.locator("pre:visible")
    assert shown.count() == 1
    assert "@fal-ai/client" in shown.inner_text()
    for summary in ways.locator("summary").all():
        summary.click()
        assert fits(page, "samples") == []


def test_without_scripts_a_client_opens_too_with_all_its_languages(browser, site):
    context = browser.new_context(base_url=site, java_script_enabled=False)
    page = context.new_page()
    page.goto(f"/models/{make_cast().ref}/")
    ways = page.locator("section:has(> #api) .ways")
    assert ways.locator("pre:visible").count() == 3
    ways.locator("summary", has_text="Replicate's client").click()
    assert ways.locator("h3:visible").all_inner_texts() == ["Python", "JavaScript"]
    context.close()
