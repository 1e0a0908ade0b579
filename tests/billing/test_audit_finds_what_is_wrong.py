"""The audit rates jobs again, and staff hear of charges and batches that hang."""

from datetime import timedelta

import pytest
from django.db import transaction

from billing import meters, tasks
from billing.invariants import audit
from billing.models import Charge, Incident, MeterBatch
from marketplace.catalog.models import FreeQuotaUse
from marketplace.core import clock
from marketplace.jobs import checks, services
from marketplace.jobs.models import Job
from tests.cast import report_finished
from tests.invoicing import charge

pytestmark = pytest.mark.django_db


@pytest.fixture
def job(cast, settings):
    settings.METER_SEAL_AFTER_S = 0
    made, _ = services.job_submit(org=cast.developer, ref=cast.ref, given={"prompt": "x"})
    services.job_finished(report_finished(made))
    return Job.objects.get(pk=made.pk)


def broken():
    return {finding.rule for finding in audit() if finding.rows}


def test_a_charge_that_its_price_does_not_explain_is_found(job):
    assert broken() == set()
    usage = job.usage
    Job.objects.filter(pk=job.pk).update(shares=[{**job.shares[0], "bps": 1}])
    assert "a charge is what its pinned price says" in broken()
    Job.objects.filter(pk=job.pk).update(shares=job.shares, free_quantity=1)
    assert "a charge is what its pinned price says" in broken()
    Job.objects.filter(pk=job.pk).update(free_quantity=0, usage=usage)
    assert checks.charges_rated_wrong() == []


def test_free_units_that_no_job_used_are_found(job):
    with transaction.atomic():
        FreeQuotaUse.objects.create(
            org=job.org,
            version=job.version,
            unit=job.price.unit,
            month=job.created_at.date().replace(day=1),
            used=1,
        )
        assert broken() == {"free units are those of the jobs"}
        transaction.set_rollback(True)


def test_a_share_that_is_not_its_part_of_the_charge_is_found(cast, monkeypatch):
    monkeypatch.setattr("billing.services.split", lambda amount, shares: ([amount], 0))
    with transaction.atomic():
        charge(cast.developer, cast.vendor, 1_000_000)
        assert Charge.objects.get().vendors_nano == 1_000_000
        assert broken() == {"every share is its part of the charge, rounded down"}
        transaction.set_rollback(True)
    assert not Charge.objects.exists()


def test_a_charge_that_is_not_sealed_for_an_hour_is_an_incident(job):
    tasks.audit()
    assert not Incident.objects.exists()
    with clock.moved():
        clock.move_to(clock.now() + timedelta(minutes=61))
        tasks.audit()
    assert Incident.objects.get().rule == "charges are not sealed"


def test_a_failed_batch_is_an_incident(job):
    meters.batches_seal()
    MeterBatch.objects.update(delivery="failed", last_error="no such customer")
    tasks.audit()
    incident = Incident.objects.get()
    assert incident.rule == "meter batches failed"
    assert "no such customer" in incident.detail
