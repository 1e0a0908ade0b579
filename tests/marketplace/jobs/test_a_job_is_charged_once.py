"""From submission to settlement: hold, charge, split, release."""

from dataclasses import replace

import pytest

from billing.models import Charge, Hold, Transfer, WalletShard
from billing.selectors import balance_of, earnings_total
from marketplace.core.errors import InsufficientFunds, InvalidInput
from marketplace.core.money import to_nano
from marketplace.jobs import services
from marketplace.jobs.models import Job, JobStatus
from tests.cast import report_failed, report_finished, report_started

PRICE = to_nano("0.004")


def submit(cast, **given):
    job, _ = services.job_submit(
        org=cast.developer, ref=cast.ref, given={"prompt": "a red circle", **given}
    )
    return job


def test_a_submission_holds_its_quote(cast):
    job = submit(cast, num_images=3)
    assert job.quote_nano == 3 * PRICE
    balance = balance_of(cast.developer.pk)
    assert balance.held_nano == 3 * PRICE
    assert balance.available_nano == to_nano("1") - 3 * PRICE


def test_a_finished_job_is_charged_and_split(cast):
    job = submit(cast, num_images=2)
    assert services.job_started(report_started(job))
    assert services.job_finished(report_finished(job, count=2))
    job.refresh_from_db()
    assert job.status == JobStatus.SUCCEEDED
    assert job.charge_nano == 2 * PRICE
    charge = Charge.objects.get(pk=job.pk)
    assert (charge.vendors_nano, charge.fee_nano) == (6_400_000, 1_600_000)
    assert earnings_total(cast.vendor.pk) == 6_400_000
    balance = balance_of(cast.developer.pk)
    assert (balance.held_nano, balance.prepaid_nano) == (0, to_nano("1") - 2 * PRICE)


def test_fewer_outputs_than_asked_for_cost_less_than_the_quote(cast):
    job = submit(cast, num_images=4)
    services.job_finished(report_finished(job, count=1))
    job.refresh_from_db()
    assert (job.quote_nano, job.charge_nano) == (4 * PRICE, PRICE)
    assert balance_of(cast.developer.pk).held_nano == 0


def test_refused_weights_cost_nothing(cast):
    job = submit(cast)
    services.job_started(report_started(job))
    assert services.job_failed(report_failed(job, "weights_mismatch"))
    job.refresh_from_db()
    assert (job.status, job.error_code) == (JobStatus.FAILED, "weights_mismatch")
    assert job.charge_nano == 0
    balance = balance_of(cast.developer.pk)
    assert (balance.held_nano, balance.prepaid_nano) == (0, to_nano("1"))


def test_a_repeated_report_changes_nothing(cast):
    job = submit(cast)
    message = report_finished(job)
    assert services.job_finished(message)
    rows = Transfer.objects.count()
    assert not services.job_finished(message)
    assert Transfer.objects.count() == rows
    assert Charge.objects.count() == 1


def test_a_failed_job_is_free(cast):
    job = submit(cast)
    services.job_started(report_started(job))
    assert services.job_failed(report_failed(job, "engine_error"))
    job.refresh_from_db()
    assert (job.status, job.charge_nano, job.error_code) == ("failed", 0, "engine_error")
    assert balance_of(cast.developer.pk).available_nano == to_nano("1")
    assert Hold.objects.get(pk=job.pk).state == "released"


@pytest.mark.parametrize("bad", ["\0", "\ud800", "\n"])
def test_a_failure_is_booked_whatever_its_text_holds(cast, bad):
    job = submit(cast)
    services.job_started(report_started(job))
    message = replace(report_failed(job, "invalid_input"), message=f"a{bad}b")
    assert services.job_failed(message)
    job.refresh_from_db()
    assert (job.status, job.error_message) == ("failed", "a b")


def test_a_retryable_failure_is_tried_again_and_the_first_attempt_is_fenced_off(
    cast, django_capture_on_commit_callbacks
):
    job = submit(cast)
    zombie = report_finished(job)
    services.job_failed(report_failed(job, "out_of_memory", retryable=True))
    job.refresh_from_db()
    assert (job.status, job.attempt) == ("queued", 2)
    assert not services.job_finished(zombie)
    assert services.job_finished(report_finished(job))
    assert Charge.objects.get(pk=job.pk).amount_nano == PRICE


def test_attempts_are_bounded(cast, settings):
    job = submit(cast)
    for _ in range(settings.JOB_MAX_ATTEMPTS):
        job.refresh_from_db()
        services.job_failed(report_failed(job, "upload_failed", retryable=True))
    job.refresh_from_db()
    assert (job.status, job.charge_nano) == ("failed", 0)


def test_a_job_that_the_balance_cannot_cover_is_refused_and_nothing_is_written(cast):
    WalletShard.objects.filter(org=cast.developer).update(held_nano=0)
    for _ in range(62):
        submit(cast, num_images=4)
    with pytest.raises(InsufficientFunds) as refusal:
        submit(cast, num_images=4)
    assert refusal.value.extra["available_nano_usd"] == to_nano("1") - 62 * 4 * PRICE
    assert Job.objects.count() == 62
    assert Hold.objects.count() == 62


def test_outputs_elsewhere_than_told_are_refused_and_not_charged(cast):
    import dataclasses

    job = submit(cast)
    report = report_finished(job)
    moved = dataclasses.replace(report.outputs[0], key="outputs/of/somebody/else.png")
    services.job_finished(dataclasses.replace(report, outputs=[moved]))
    job.refresh_from_db()
    assert (job.status, job.attempt, job.charge_nano) == ("queued", 2, None)


def test_an_output_that_was_not_stored_whole_is_refused(cast):
    import dataclasses

    job = submit(cast)
    report = report_finished(job)
    longer = dataclasses.replace(report.outputs[0], size=report.outputs[0].size + 1)
    services.job_finished(dataclasses.replace(report, outputs=[longer]))
    job.refresh_from_db()
    assert job.status == "queued"


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({}, "input.prompt"),
        ({"prompt": ""}, "input.prompt"),
        ({"prompt": "x", "num_images": 5}, "input.num_images"),
        ({"prompt": "x", "num_images": "2"}, "input.num_images"),
        ({"prompt": "x", "colour": "red"}, "input.colour"),
        ([], "input"),
        ("a red circle", "input"),
    ],
)
def test_a_bad_input_is_refused_by_name(cast, given, field):
    with pytest.raises(InvalidInput) as refusal:
        services.job_submit(org=cast.developer, ref=cast.ref, given=given)
    assert field in refusal.value.fields
    assert Job.objects.count() == 0


def test_a_job_cancelled_before_its_report_came_is_free(cast):
    job = submit(cast)
    services.job_started(report_started(job))
    job.refresh_from_db()
    services.job_cancel(org=cast.developer, job=job)
    assert services.job_finished(report_finished(job))
    job.refresh_from_db()
    assert (job.status, job.charge_nano) == ("cancelled", 0)
    assert balance_of(cast.developer.pk).available_nano == to_nano("1")


def test_a_cancelled_job_whose_worker_is_lost_is_cancelled(cast):
    job = submit(cast)
    services.job_started(report_started(job))
    job.refresh_from_db()
    services.job_cancel(org=cast.developer, job=job)
    assert services.job_lost(job, "worker_lost")
    job.refresh_from_db()
    assert (job.status, job.attempt, job.error_code) == ("cancelled", 1, "")
