"""A free quota: held at submission, counted at the end, exact whoever comes at once."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from billing.models import Charge
from billing.selectors import balance_of
from marketplace.catalog import services as catalog
from marketplace.catalog.models import FreeQuotaUse
from marketplace.core.errors import InsufficientFunds, InvalidInput
from marketplace.core.money import to_nano
from marketplace.jobs import requests, services
from marketplace.jobs.models import Job
from marketplace.jobs.selectors import free_units_drift
from tests.at_once import at_once
from tests.cast import make_cast, report_failed, report_finished, report_started

PRICE = to_nano("0.004")


def offer_free(cast, quota, **parts):
    return catalog.price_set(
        version=cast.version,
        **{"unit": "image", "unit_price": Decimal("0.004"), "free_quota": Decimal(quota), **parts},
    )


def submit(cast, count=1, **extra):
    given = {"prompt": "x", "num_images": count}
    return services.job_submit(org=cast.developer, ref=cast.ref, given=given, **extra)[0]


def month(cast):
    row = FreeQuotaUse.objects.get(org=cast.developer)
    return row.used, row.held


def test_free_units_cost_nothing_and_the_rest_is_charged(cast):
    offer_free(cast, 3)
    first, second = submit(cast, 2), submit(cast, 4)
    assert (first.quote_nano, second.quote_nano) == (0, 3 * PRICE)
    assert month(cast) == (0, 3)
    services.job_finished(report_finished(first, count=2))
    services.job_finished(report_finished(second, count=4))
    second.refresh_from_db()
    assert second.charge_nano == 3 * PRICE
    assert month(cast) == (3, 0)
    lines = Charge.objects.get(pk=second.pk).lines
    assert [(line["what"], Decimal(line["quantity"])) for line in lines] == [
        ("image, free this month", 1),
        ("image", 3),
    ]


def test_a_month_that_does_not_agree_with_its_jobs_is_found(cast):
    offer_free(cast, 3)
    job = submit(cast, 2)
    for wrong in ({"held": 1}, {"used": 1}):
        right = FreeQuotaUse.objects.values("held", "used").get()
        FreeQuotaUse.objects.update(**wrong)
        assert len(free_units_drift()) == 1
        FreeQuotaUse.objects.update(**right)
    services.job_finished(report_finished(job, count=1))
    FreeQuotaUse.objects.update(used=0)
    assert len(free_units_drift()) == 1
    FreeQuotaUse.objects.update(used=1)


def test_the_api_shows_the_lines_of_a_charge(api, cast):
    offer_free(cast, 1)
    job = submit(cast, 2)
    assert api.get(f"/v1/jobs/{job.pk}").json()["charge_lines"] is None
    services.job_finished(report_finished(job, count=2))
    shown = api.get(f"/v1/jobs/{job.pk}").json()
    assert [line["what"] for line in shown["charge_lines"]] == ["image, free this month", "image"]
    assert sum(Decimal(line["amount_usd"]) for line in shown["charge_lines"]) == Decimal("0.004")


def test_whoever_has_no_money_can_use_what_is_free(cast):
    offer_free(cast, 2)
    given = {"prompt": "x", "num_images": 2}
    job, _ = services.job_submit(org=cast.stranger, ref=cast.ref, given=given)
    assert job.quote_nano == 0
    with pytest.raises(InsufficientFunds):
        services.job_submit(org=cast.stranger, ref=cast.ref, given=given)


def test_units_that_were_not_used_are_free_again(cast):
    offer_free(cast, 4)
    job = submit(cast, 4)
    services.job_finished(report_finished(job, count=1))
    assert month(cast) == (1, 0)
    assert submit(cast, 3).quote_nano == 0


@pytest.mark.parametrize("end", ["fail", "cancel"])
def test_a_job_that_ends_badly_uses_nothing_free(cast, end):
    offer_free(cast, 4)
    job = submit(cast, 4)
    if end == "fail":
        services.job_started(report_started(job))
        services.job_failed(report_failed(job, "weights_mismatch"))
    else:
        services.job_cancel(org=cast.developer, job=job)
    assert month(cast) == (0, 0)


def test_a_report_that_comes_twice_counts_once(cast):
    offer_free(cast, 4)
    job = submit(cast, 2)
    report = report_finished(job, count=2)
    assert services.job_finished(report)
    assert not services.job_finished(report)
    assert month(cast) == (2, 0)


def test_a_refused_job_holds_nothing(cast):
    offer_free(cast, 1)
    with pytest.raises(InvalidInput):
        submit(cast, 4, max_charge_nano=PRICE)
    assert not FreeQuotaUse.objects.filter(held__gt=0).exists()


def test_a_new_price_is_no_second_quota(cast):
    offer_free(cast, 2)
    submit(cast, 2)
    offer_free(cast, 3)
    assert submit(cast, 4).quote_nano == 3 * PRICE


def test_a_new_month_is_a_new_quota(cast, monkeypatch):
    offer_free(cast, 1)
    old = submit(cast)
    monkeypatch.setattr(requests, "now", lambda: datetime(2031, 1, 1, tzinfo=UTC))
    assert submit(cast).quote_nano == 0
    monkeypatch.undo()
    services.job_finished(report_finished(old))
    rows = FreeQuotaUse.objects.order_by("month").values_list("used", "held")
    assert list(rows) == [(1, 0), (0, 1)]


def test_a_quote_counts_what_is_free_and_holds_nothing(api, cast):
    offer_free(cast, 3)
    body = {"input": {"prompt": "x", "num_images": 4}}
    answer = api.post(f"/v1/models/{cast.ref}/quote", body, format="json").json()
    assert answer["quote_nano_usd"] == PRICE
    assert answer["lines"][0]["what"] == "image, free this month"
    assert not FreeQuotaUse.objects.exists()


@pytest.mark.usefixtures("transactional_db")
def test_of_many_at_once_just_the_quota_is_free():
    cast = make_cast()
    offer_free(cast, 7)
    jobs = at_once([lambda: submit(cast, 2)] * 8)
    assert all(isinstance(job, Job) for job in jobs), jobs
    assert sum(job.free_quantity for job in jobs) == 7
    assert sum(job.quote_nano for job in jobs) == 9 * PRICE
    reports = [report_finished(job, count=1) for job in jobs]
    ends = at_once([lambda r=report: services.job_finished(r) for report in reports])
    assert ends == [True] * 8
    free = [min(job.free_quantity, 1) for job in jobs]
    assert month(cast) == (sum(free), 0)
    assert balance_of(cast.developer.pk).prepaid_nano == to_nano("1") - (8 - sum(free)) * PRICE
