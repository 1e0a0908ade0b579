"""The audit rates jobs again, and staff hear of charges and batches that hang."""

import uuid
from datetime import timedelta

import pytest
from django.core.cache import cache
from django.db import connection, transaction

from billing import meters, tasks
from billing.invariants import audit, audit_last
from billing.models import Charge, Incident, MeterBatch, Transfer
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


def test_a_transfer_to_no_account_is_found(job):
    with transaction.atomic():
        row = Transfer.objects.filter(kind="share").get()
        Transfer.objects.create(
            id=uuid.uuid4(), debit_id=row.debit_id, credit_id=0, amount_nano=1,
            kind="payout_return", source_id=uuid.uuid4(), occurred_at=row.occurred_at,
        )  # fmt: skip
        assert "every transfer is between accounts that are there" in broken()
        transaction.set_rollback(True)


def test_a_charge_for_no_vendor_or_of_another_payer_is_found(job):
    rule = "a charge is its hold's payer's, for a vendor that is there"
    for change in ({"vendor_id": uuid.uuid4()}, {"org_id": job.version.model.org_id}):
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute("SET LOCAL session_replication_role = replica")  # no triggers
            Charge.objects.update(**change)
            assert rule in broken()
            transaction.set_rollback(True)


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


def test_an_incident_opens_without_valkey(job, settings):
    away = settings.CACHES["default"] | {"LOCATION": "redis://127.0.0.1:9/0"}
    settings.CACHES = settings.CACHES | {"default": away}
    with clock.moved():
        clock.move_to(clock.now() + timedelta(minutes=61))
        tasks.audit()
    assert Incident.objects.get().rule == "charges are not sealed"
    assert audit_last() is None


@pytest.mark.parametrize("kept", [{"at": "soon", "findings": {}}, {"findings": 1}, [1], "x"])
def test_what_another_release_remembered_is_not_known(kept):
    cache.set("billing.audit.last", kept)
    assert audit_last() is None


def test_an_audit_is_remembered(job):
    tasks.audit()
    last = audit_last()
    assert last is not None
    assert [finding.rule for finding in last[1]] == [finding.rule for finding in audit()]
