"""What a vendor learns of its calls: sums that are right, no names, nothing of other vendors."""

from datetime import timedelta

import pytest

from billing import services as billing
from marketplace.accounts import services as accounts
from marketplace.core.clock import now
from marketplace.jobs import analytics, services
from marketplace.jobs.models import Job
from tests.cast import listed_version, open_licence, report_failed, report_finished, report_started

pytestmark = pytest.mark.django_db
USD = 10**9


def call(org, ref, *, took=2.0, fails=False):
    made, _ = services.job_submit(org=org, ref=ref, given={"prompt": "x"})
    job = Job.objects.select_related("version__model__org").get(pk=made.pk)
    services.job_started(report_started(job))
    if fails:
        services.job_failed(report_failed(job, "out_of_memory"))
    else:
        services.job_finished(report_finished(job))
    job.refresh_from_db()
    Job.objects.filter(pk=job.pk).update(finished_at=job.created_at + timedelta(seconds=took))
    return job


def month():
    return now() - timedelta(days=30)


def test_sums_and_percentiles_are_those_of_the_calls(cast):
    for took in (1, 2, 3):
        call(cast.developer, cast.ref, took=took)
    call(cast.developer, cast.ref, fails=True, took=60)
    found = analytics.calls_of([cast.version.pk], month())
    assert found.total.count == 4
    assert found.total.failed == 1
    assert found.total.error_percent == 25
    assert found.total.charged_nano == 3 * 4_000_000
    assert found.total.p50_s == pytest.approx(2)
    assert found.total.p95_s == pytest.approx(2.9)
    assert found.by_version == {cast.version.pk: found.total}
    assert found.by_day == [(now().date(), found.total)]


def test_it_is_one_query_however_many_versions(cast, django_assert_num_queries):
    call(cast.developer, cast.ref)
    with django_assert_num_queries(1):
        analytics.calls_of([cast.version.pk], month())


def test_calls_of_other_vendors_are_not_counted(cast):
    licence = open_licence(cast.stranger)
    theirs = listed_version(cast.stranger, licence, cast.sam, name="theirs")
    call(cast.developer, theirs.model.ref)
    assert analytics.calls_of([cast.version.pk], month()).total.count == 0


def test_customers_have_made_up_names_from_ten_calls_on(cast):
    other = accounts.organisation_create(name="Other", owner=cast.charlie, slug="other")
    billing.credit_top_up(org_id=other.pk, amount_nano=USD, source="test:other")
    for _ in range(analytics.MIN_CALLS):
        call(cast.developer, cast.ref)
    call(other, cast.ref)
    found = analytics.customers_of(cast.vendor.pk, [cast.version.pk], month())
    assert [row.count for row in found.top] == [analytics.MIN_CALLS]
    assert found.others == 1
    name = found.top[0].name
    assert name == analytics.pseudonym(cast.vendor.pk, cast.developer.pk)
    assert name != analytics.pseudonym(cast.stranger.pk, cast.developer.pk)
    for secret in (cast.developer.name, cast.developer.slug, str(cast.developer.pk)):
        assert secret not in name


def test_the_vendors_own_calls_are_no_customer(cast):
    billing.credit_top_up(org_id=cast.vendor.pk, amount_nano=USD, source="test:own")
    for _ in range(analytics.MIN_CALLS):
        call(cast.vendor, cast.ref)
    found = analytics.customers_of(cast.vendor.pk, [cast.version.pk], month())
    assert found.top == []
    assert found.others == 0
