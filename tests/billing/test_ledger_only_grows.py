"""Ledger rows, charges, prices and versions are refused every change by PostgreSQL itself."""

import json
import uuid

import pytest
from django.db import DatabaseError, IntegrityError, connection, transaction

from billing import services as billing
from billing.models import Account, Charge, Transfer
from marketplace.catalog.models import Licence, Price, Version
from marketplace.jobs import services
from tests.cast import report_finished


@pytest.fixture
def settled(cast):
    job, _ = services.job_submit(org=cast.developer, ref=cast.ref, given={"prompt": "x"})
    services.job_finished(report_finished(job))
    return job


@pytest.mark.parametrize(
    "change",
    [
        lambda: Transfer.objects.update(amount_nano=1),
        lambda: Transfer.objects.all()._raw_delete("default"),
        lambda: Account.objects.update(kind="loss"),
        lambda: Account.objects.all()._raw_delete("default"),
        lambda: Charge.objects.update(amount_nano=0, prepaid_nano=0, vendors_nano=0, fee_nano=0),
        lambda: Price.objects.update(unit_price=0),
        lambda: Version.objects.update(weights_digest="sha256:" + "1" * 64),
        lambda: Licence.objects.update(revenue_share_bps=0),
        lambda: Licence.objects.all()._raw_delete("default"),
    ],
)
def test_history_cannot_be_rewritten(settled, change):
    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
        change()


def test_a_status_may_still_change(settled):
    assert Version.objects.update(status="suspended") == 1


def test_the_same_leg_is_posted_once(settled):
    before = Transfer.objects.count()
    row = Transfer.objects.filter(kind="share").get()
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT billing_post(%s, %s, %s, %s, %s, 0, now())",
            [row.debit_id, row.credit_id, row.amount_nano, row.kind, row.source_id],
        )
        assert cursor.fetchone() == (False,)
    assert Transfer.objects.count() == before


def test_no_other_row_takes_the_place_of_a_leg(settled):
    row = Transfer.objects.filter(kind="share").get()
    row.pk, row.amount_nano = uuid.uuid4(), 1
    with pytest.raises(IntegrityError, match="transfer_once"), transaction.atomic():
        row.save(force_insert=True)


def test_shares_above_the_charge_are_refused(cast):
    source = uuid.uuid4()
    billing.hold_reserve(source_id=source, org_id=cast.developer.pk, amount_nano=100)
    shares = json.dumps([{"org_id": str(cast.vendor.pk), "amount_nano": 101}])
    with (
        pytest.raises(DatabaseError, match="exceed the charge"),
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute(
            "SELECT billing_settle(%s, %s, %s, %s, '', '', 1, 100, '[]', %s, now())",
            [source, cast.vendor.pk, cast.version.pk, uuid.uuid4(), shares],
        )
