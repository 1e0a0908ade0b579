"""Jobs on their pages: what is shown in each state, paging, cancelling, the charge explained."""

from inference import protocol
from marketplace.catalog.models import Model
from marketplace.core import valkey
from marketplace.jobs import events
from marketplace.jobs.models import JobStatus

HTMX = {"HX-Request": "true"}


def test_a_finished_job_shows_its_pictures_and_explains_its_charge(bob, make_job):
    job = make_job("succeeded", num_images=2)
    page = bob.get(f"/dashboard/jobs/{job.pk}/").content.decode()
    assert page.count("/files/") >= 4  # shown and downloadable, twice
    assert "2 × $0.004" in page
    assert "$0.008" in page
    assert "hx-trigger" not in page


def test_a_failed_job_says_why_and_that_it_is_free(bob, make_job):
    page = bob.get(f"/dashboard/jobs/{make_job('failed').pk}/").content.decode()
    assert "The device ran out of memory." in page
    assert "A failed job costs nothing." in page


def test_a_running_job_shows_its_step_and_asks_again(bob, make_job):
    job = make_job("running")
    events.emit(job.pk, "progress", {"step": 3, "steps": 4})
    try:
        fragment = bob.get(f"/dashboard/jobs/{job.pk}/", headers=HTMX).content.decode()
    finally:
        valkey.client().delete(protocol.events_key(str(job.pk)))
    assert "Step 3 of 4" in fragment
    assert 'value="3" max="4"' in fragment
    assert 'hx-trigger="every 1s"' in fragment
    assert "<html" not in fragment


def test_a_queued_job_is_cancelled_by_its_button(bob, make_job):
    job = make_job("queued")
    assert b"Cancel this job" in bob.get(f"/dashboard/jobs/{job.pk}/").content
    answer = bob.post(f"/dashboard/jobs/{job.pk}/cancel/", follow=True)
    job.refresh_from_db()
    assert job.status == JobStatus.CANCELLED
    assert b"It costs nothing" in answer.content
    assert b"Cancel this job" not in answer.content


def test_cancelling_too_late_is_said(bob, make_job):
    job = make_job("succeeded")
    answer = bob.post(f"/dashboard/jobs/{job.pk}/cancel/", follow=True)
    assert b"succeeded already" in answer.content


def test_pages_of_jobs_follow_each_other_without_gap_or_repetition(bob, make_job):
    made = {str(make_job("queued").pk) for _ in range(23)}
    first = bob.get("/dashboard/jobs/")
    assert len(first.context["rows"]) == 20
    second = bob.get(first.context["older"])
    assert second.context["older"] == ""
    seen = [str(row["job"].pk) for page in (first, second) for row in page.context["rows"]]
    assert len(seen) == 23
    assert set(seen) == made


def test_the_status_filter_keeps_what_it_names(bob, make_job):
    make_job("failed")
    job = make_job("queued")
    rows = bob.get("/dashboard/jobs/?status=queued").context["rows"]
    assert [row["job"].pk for row in rows] == [job.pk]


def test_a_cursor_of_somebody_else_is_not_found(charlie, make_job):
    assert charlie.get(f"/dashboard/jobs/?before={make_job('queued').pk}").status_code == 404
    assert charlie.get("/dashboard/jobs/?before=nonsense").status_code == 404


def test_an_output_can_be_reported_from_its_page(bob, cast, make_job):
    job = make_job("succeeded")
    link = f"/report/?model=atelier/sketch&amp;job={job.pk}"
    assert link in bob.get(f"/dashboard/jobs/{job.pk}/").content.decode()
    assert bob.get(link.replace("&amp;", "&")).status_code == 200
    assert "/report/?" not in bob.get(f"/dashboard/jobs/{make_job('failed').pk}/").content.decode()
    Model.objects.filter(pk=cast.version.model_id).update(visibility="private")
    assert "/report/?" not in bob.get(f"/dashboard/jobs/{job.pk}/").content.decode()
