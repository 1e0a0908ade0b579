"""A developer narrows the list of jobs, finds one by its id, and takes the list along as CSV."""

import csv
import io
from datetime import timedelta

import pytest

from marketplace.core.clock import now
from marketplace.jobs import services
from marketplace.jobs.models import Job
from tests.cast import listed_version
from tests.downloads import text_of


def found(client, query):
    return {row["job"].pk for row in client.get(f"/dashboard/jobs/?{query}").context["rows"]}


def csv_of(answer):
    assert answer.status_code == 200
    assert answer["Content-Type"].startswith("text/csv")
    return list(csv.DictReader(io.StringIO(text_of(answer))))


@pytest.fixture
def played(cast, make_job):
    """A job that a person made on the model's page."""
    job, _ = services.job_submit(
        org=cast.developer, ref=cast.ref, given={"prompt": "by hand"}, user=cast.bob
    )
    return job


def test_by_source(bob, make_job, played):
    called = make_job("queued")
    assert found(bob, "source=api") == {called.pk}
    assert found(bob, "source=playground") == {played.pk}


def test_by_model(bob, cast, make_job):
    other = listed_version(cast.vendor, cast.licence, cast.sam, name="other")
    first = make_job("queued")
    second, _ = services.job_submit(
        org=cast.developer, ref=other.model.ref, given={"prompt": "x"}, api_key=cast.key
    )
    assert found(bob, "model=atelier/sketch") == {first.pk}
    assert found(bob, "model=atelier/other") == {second.pk}
    assert found(bob, "model=atelier/none") == set()
    assert bob.get("/dashboard/jobs/").context["models"] == ["atelier/other", "atelier/sketch"]


def test_by_key(bob, cast, make_job, played):
    called = make_job("queued")
    assert found(bob, f"key={cast.key.pk}") == {called.pk}
    assert found(bob, "key=nonsense") == set()


def test_by_days(bob, make_job):
    old, new = make_job("queued"), make_job("queued")
    Job.objects.filter(pk=old.pk).update(created_at=now() - timedelta(days=3))
    today, then = now().date(), now().date() - timedelta(days=3)
    assert found(bob, f"from={today}") == {new.pk}
    assert found(bob, f"from={then}&to={then}") == {old.pk}
    assert found(bob, "from=rubbish") == {old.pk, new.pk}


def test_by_the_beginning_of_its_id(bob, charlie, make_job):
    job = make_job("queued")
    Job.objects.filter(pk=make_job("queued").pk)
    assert found(bob, f"id={job.pk}") == {job.pk}
    assert job.pk in found(bob, f"id={str(job.pk)[:23]}")
    assert found(bob, f"id={str(job.pk)[:5]}") == set()
    assert found(bob, "id=zzzzzzzzzz") == set()
    assert found(charlie, f"id={job.pk}") == set()


def test_the_next_page_keeps_the_filters(bob, make_job):
    for number in range(22):
        make_job("failed" if number % 11 == 0 else "queued")
    page = bob.get("/dashboard/jobs/?status=queued")
    assert page.context["older"] == ""
    page = bob.get("/dashboard/jobs/?source=api")
    assert page.context["older"].startswith("/dashboard/jobs/?source=api&before=")
    assert page.context["older"].replace("&", "&amp;") in page.content.decode()


def test_the_csv_has_what_the_filters_leave_and_nobody_elses(bob, charlie, make_job):
    failed = make_job("failed")
    made = make_job("succeeded")
    rows = csv_of(bob.get("/dashboard/jobs.csv"))
    assert {row["id"] for row in rows} == {str(failed.pk), str(made.pk)}
    assert {row["charge_usd"] for row in rows} == {"0.004", "0"}
    assert [row["id"] for row in csv_of(bob.get("/dashboard/jobs.csv?status=failed"))] == [
        str(failed.pk)
    ]
    assert csv_of(charlie.get("/dashboard/jobs.csv")) == []


def test_no_cell_of_a_csv_is_a_formula(bob, cast, make_job):
    cast.key.name = "=cmd()"
    cast.key.save()
    make_job("queued")
    assert csv_of(bob.get("/dashboard/jobs.csv"))[0]["key"] == "'=cmd()"


def test_live_rows_are_asked_for_until_the_last_has_ended(bob, charlie, make_job):
    queued, done = make_job("queued"), make_job("succeeded")
    page = bob.get("/dashboard/jobs/").content.decode()
    assert f'hx-get="/dashboard/jobs/live/?ids={queued.pk}"' in page
    path = f"/dashboard/jobs/live/?ids={queued.pk},{done.pk}"
    assert "hx-trigger" in bob.get(path).content.decode()
    services.job_cancel(org=queued.org, job=queued)
    answer = bob.get(path).content.decode()
    assert answer.count("hx-swap-oob") == 2
    assert "hx-trigger" not in answer
    assert "job-row" not in charlie.get(path).content.decode()


def test_a_list_without_live_rows_asks_for_nothing(bob, make_job):
    make_job("succeeded")
    assert "hx-trigger" not in bob.get("/dashboard/jobs/").content.decode()
