"""A developer finds a job, reads where its time went, and rotates a key that goes on working."""

import urllib.request

import pytest

from marketplace.accounts import audit, projects
from marketplace.accounts.endpoints import endpoint_create
from marketplace.jobs import events as job_events
from marketplace.jobs import services
from marketplace.jobs.models import Job
from tests.browser.conftest import OUT
from tests.cast import make_cast, report_failed, report_finished, report_started

SCREENS = {"light": ("light", 1280), "dark": ("dark", 1280), "phone": ("light", 360)}
TIMINGS = {
    "wait": 300, "load": 2400, "denoise": 3100, "decode": 250, "encode": 60, "upload": 200,
    "total": 6310,
}  # fmt: skip


@pytest.fixture
def desk(page, site, client, settings):
    """Bob's desk: jobs of a key and of the playground, one of which failed at first."""
    from datetime import timedelta

    from marketplace.core.clock import now

    settings.OUTBOUND_ALLOW_CIDRS = ["127.0.0.0/8"]
    cast = make_cast()
    cast.key.project = projects.project_create(
        org=cast.developer, name="Film", monthly_budget_nano=10**9
    )
    cast.key.save()
    made = []
    for number, prompt in enumerate(("a red circle", "a blue square", "a green star")):
        job, _ = services.job_submit(
            org=cast.developer, ref=cast.ref, given={"prompt": prompt, "num_images": 1 + number},
            **({"user": cast.bob} if number == 2 else {"api_key": cast.key}),
            webhook_url="http://127.0.0.1:9/hook" if number == 0 else "",
        )  # fmt: skip
        services.job_started(report_started(job))
        if number == 1:
            services.job_failed(report_failed(job, "out_of_memory"))
            continue
        if number == 0:
            services.job_failed(report_failed(job, "worker_lost", retryable=True))
            job.refresh_from_db()
            services.job_started(report_started(job))
        services.job_finished(report_finished(job, count=1 + number))
        made.append(job)
    moment = now()
    Job.objects.filter(pk=made[0].pk).update(
        created_at=moment - timedelta(seconds=14),
        started_at=moment - timedelta(seconds=7),
        finished_at=moment,
        timings_ms=TIMINGS,
        past_attempts=[
            {
                "attempt": 1, "code": "worker_lost", "worker_id": "w1",
                "queued_at": (moment - timedelta(seconds=14)).isoformat(),
                "started_at": (moment - timedelta(seconds=13)).isoformat(),
                "ended_at": (moment - timedelta(seconds=9)).isoformat(),
            }
        ],
    )  # fmt: skip
    note = {"level": "warning", "message": "not enough memory: weights stay on the host"}
    job_events.emit(made[0].pk, "log", note)
    endpoint_create(org=cast.developer, url="http://127.0.0.1:9/account")
    audit.record(org=cast.developer, action="key.create", target="test", scopes=["read", "run"])
    services.job_submit(
        org=cast.developer, ref=cast.ref, given={"prompt": "still going"}, api_key=cast.key
    )
    client.force_login(cast.bob)
    cookie = client.cookies["sessionid"]
    page.context.add_cookies([{"name": "sessionid", "value": cookie.value, "url": site}])
    return cast, made[0]


def answers(site, secret):
    request = urllib.request.Request(
        f"{site}/v1/usage", headers={"Authorization": f"Bearer {secret}"}
    )
    with urllib.request.urlopen(request) as answer:
        return answer.status


def test_find_read_and_rotate(page, site, desk):
    cast, _ = desk
    page.goto("/dashboard/jobs/")
    assert page.locator(".job-row").count() == 4
    page.get_by_label("Source").select_option("playground")
    page.get_by_role("button", name="Find").click()
    assert page.locator(".job-row").count() == 1
    assert page.get_by_role("link", name="a green star").is_visible()
    page.get_by_role("link", name="Show all").click()
    live = Job.objects.get(status="queued")
    row = page.locator(f"#job-{live.pk}")
    assert "Queued" in row.text_content()
    services.job_cancel(org=cast.developer, job=live)
    row.get_by_text("Cancelled").wait_for()  # the row came by itself
    assert page.locator("#jobs-live[hx-get]").count() == 0

    page.get_by_role("link", name="a red circle").click()
    page.get_by_role("heading", name="Timeline").wait_for()
    assert page.get_by_text("failed: worker lost").is_visible()
    bars = [bar.bounding_box() for bar in page.locator(".stages rect").all()]
    list_of = page.locator(".stage-list li").all_text_contents()
    lost = next(n for n, text in enumerate(list_of) if "Attempt 1: running" in text)
    load = next(n for n, text in enumerate(list_of) if "Cold start" in text)
    assert bars[lost]["width"] / bars[load]["width"] == pytest.approx(4 / 2.4, rel=0.05)
    assert page.get_by_text("weights stay on the host").is_visible()

    page.goto("/dashboard/keys/")
    page.get_by_role("link", name="Rotate test").click()
    page.get_by_label("The old secret works for").select_option("24")
    page.get_by_role("button", name="Make the new secret").click()
    fresh = page.locator("#secret").text_content()
    assert fresh != cast.secret
    assert [answers(site, secret) for secret in (fresh, cast.secret)] == [200, 200]


def test_it_looks_well_everywhere(page, desk):
    _, job = desk
    OUT.mkdir(parents=True, exist_ok=True)
    pages = {
        "desk-overview": "/dashboard/",
        "desk-jobs": "/dashboard/jobs/",
        "desk-job": f"/dashboard/jobs/{job.pk}/",
        "desk-usage": "/dashboard/usage/?period=7",
        "desk-keys": "/dashboard/keys/",
        "desk-webhooks": "/dashboard/webhooks/",
        "desk-delivery": f"/dashboard/webhooks/job/{job.webhook_deliveries.get().pk}/",
        "desk-audit": "/dashboard/audit/",
        "desk-team": "/dashboard/team/",
        "desk-settings": "/dashboard/settings/",
        "desk-billing": "/dashboard/billing/",
    }
    too_wide = []
    for screen, (scheme, width) in SCREENS.items():
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": width, "height": 900})
        for name, path in pages.items():
            page.goto(path)
            if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
                too_wide.append((screen, name))
            page.screenshot(path=OUT / f"{name}-{screen}.png", full_page=True)
    assert page.locator(".u-wrap").count() == 0
    assert too_wide == []
    page.goto("/dashboard/")
    page.locator(".day-plot .u-wrap canvas").wait_for()
    # Refunds may outweigh what each day cost.
    page.evaluate(
        """() => {
          document.querySelectorAll("tr[data-day]").forEach((row) => { row.dataset.nano = "-5"; });
          drawDayChart(document.querySelector("[data-day-chart]"));
        }"""
    )
    assert page.locator(".day-plot .u-wrap canvas").count() == 2
