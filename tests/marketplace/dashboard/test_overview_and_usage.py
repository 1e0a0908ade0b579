"""The overview tells what is spent and how long it lasts; usage adds up however it is cut."""

import csv
import io
from datetime import UTC, date, datetime, timedelta

import pytest

from billing.models import RefundReason
from billing.refunds import charge_refund
from billing.selectors import Balance, Day
from marketplace.core.clock import now
from marketplace.dashboard.runway import runway_of
from marketplace.jobs import services
from marketplace.jobs.models import Job
from tests.cast import report_finished
from tests.downloads import text_of

TODAY = date(2026, 5, 20)


def having(nano):
    return Balance(nano, 0, 0, 0, 0, nano)


def test_a_balance_lasts_as_the_last_seven_days_went():
    days = [Day(TODAY - timedelta(days=n), 1, 7) for n in range(20)]
    found = runway_of(having(70), days, TODAY)
    assert (found.a_day_nano, found.days, found.ends) == (7, 10, TODAY + timedelta(days=10))


def test_who_began_yesterday_is_judged_by_two_days():
    days = [Day(TODAY - timedelta(days=1), 1, 10), Day(TODAY, 1, 10)]
    assert runway_of(having(100), days, TODAY).days == 10


def test_nothing_spent_lasts_for_ever():
    assert runway_of(having(5), [Day(TODAY - timedelta(days=30), 1, 9)], TODAY).days is None


def test_an_empty_balance_lasts_no_day():
    assert runway_of(having(-5), [Day(TODAY, 1, 9)], TODAY).days == 0


def test_first_steps_are_ticked_off(bob, charlie, cast, make_job):
    page = charlie.get("/dashboard/").content.decode()
    assert page.count('class="done"') == 1, "Charlie has a key"
    make_job("succeeded")
    steps = {step.name: step.done for step in bob.get("/dashboard/").context["steps"]}
    assert steps == {
        "Make an API key": True,
        "Make the first call": True,
        "Add money": False,
        "Be told by webhook": False,
    }


def test_a_run_in_the_playground_is_a_first_call(bob, cast, make_job):
    Job.objects.filter(pk=make_job("succeeded").pk).update(api_key=None)
    steps = {step.name: step.done for step in bob.get("/dashboard/").context["steps"]}
    assert steps["Make the first call"]


def test_the_overview_counts_calls_latency_and_causes(bob, make_job):
    for status in ("succeeded", "succeeded", "failed"):
        make_job(status)
    Job.objects.filter(status="succeeded").update(
        created_at=now() - timedelta(seconds=10), finished_at=now()
    )
    context = bob.get("/dashboard/").context
    assert context["today"] == (3, 8_000_000)
    assert context["month"] == (3, 8_000_000)
    assert context["errors"] == [("out_of_memory", 1)]
    assert context["latency"].count == 2
    assert context["latency"].p95 == pytest.approx(10, abs=1)


@pytest.fixture
def mixed(cast, make_job):
    """Two calls of a key and one of a person, one of them given back."""
    first = make_job("succeeded")
    make_job("failed")
    played, _ = services.job_submit(
        org=cast.developer, ref=cast.ref, given={"prompt": "x", "num_images": 2}, user=cast.bob
    )
    services.job_finished(report_finished(played, count=2))
    return first


def test_usage_adds_up_by_model_key_project_and_day(bob, charlie, cast, mixed):
    found = bob.get("/dashboard/usage/?period=7").context["usage"]
    assert (found.count, found.amount_nano) == (3, 12_000_000)
    for rows in (found.models, found.keys, found.projects):
        assert sum(row.amount_nano for row in rows) == 12_000_000
        assert sum(row.count for row in rows) == 3
    assert [row.name for row in found.keys] == ["Playground", f"test ({cast.key.prefix}…)"]
    assert [row.name for row in found.models] == ["atelier/sketch"]
    assert charlie.get("/dashboard/usage/").context["usage"].count == 0


def test_refunds_are_taken_off_where_they_belong(bob, cast, mixed):
    charge_refund(source_id=mixed.pk, by=cast.sam, reason=RefundReason.STAFF, key="t")
    found = bob.get("/dashboard/usage/?period=7").context["usage"]
    assert found.amount_nano == 8_000_000
    assert {row.name: row.amount_nano for row in found.keys} == {
        "Playground": 8_000_000,
        f"test ({cast.key.prefix}…)": 0,
    }


def test_a_period_leaves_out_what_is_beyond(bob, mixed):
    Job.objects.filter(pk=mixed.pk).update(finished_at=datetime(2026, 1, 5, 23, 59, tzinfo=UTC))
    page = bob.get("/dashboard/usage/?period=days&from=2026-01-05&to=2026-01-05")
    assert page.context["usage"].count == 1
    assert bob.get("/dashboard/usage/?period=rubbish").context["period"].length == 30


def test_the_csv_has_a_row_for_each_day_model_and_key(bob, charlie, mixed):
    text = text_of(bob.get("/dashboard/usage.csv?period=7"))
    rows = list(csv.DictReader(io.StringIO(text)))
    assert {(row["key"] == "Playground", row["calls"], row["charged_usd"]) for row in rows} == {
        (True, "1", "0.008"),
        (False, "2", "0.004"),
    }
    assert text_of(charlie.get("/dashboard/usage.csv")).count("\n") == 1
