"""A field that was made larger by hand keeps its size, and nothing is said on the console."""

import pytest

from marketplace.jobs import services
from tests.cast import make_cast, report_finished, report_started

MODEL = "/models/atelier/sketch/"


@pytest.fixture
def cast(page, site, client):
    """Bob, signed in, with one run of his in the playground's list."""
    cast = make_cast()
    job, _ = services.job_submit(
        org=cast.developer, ref=cast.ref, given={"prompt": "a red circle"}, user=cast.bob
    )
    services.job_started(report_started(job))
    services.job_finished(report_finished(job, count=1))
    client.force_login(cast.bob)
    cookie = client.cookies["sessionid"]
    page.context.add_cookies([{"name": "sessionid", "value": cookie.value, "url": site}])
    return cast


def test_a_run_after_a_field_was_resized(page, cast):
    page.goto(MODEL)
    prompt = page.locator("#id_in-prompt")
    # What Chromium writes when somebody drags the corner of a text box.
    prompt.evaluate("field => { field.style.height = '200px'; }")
    with page.expect_response(lambda answer: "from=" in answer.url):
        page.locator("a[data-fill]").first.click()
    page.wait_for_function("() => !document.querySelector('.htmx-settling, .htmx-request')")
    assert prompt.input_value() == "a red circle"
    prompt.evaluate("field => { field.style.height = '200px'; }")
    page.locator("#playground-run").click()
    live = page.locator("#playground-live")
    live.get_by_text("Queued: waiting for a free worker").wait_for()
    page.wait_for_timeout(300)  # what htmx settles, it settles afterwards
