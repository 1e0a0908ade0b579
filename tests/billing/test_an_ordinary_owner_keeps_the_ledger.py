"""Where the tables' owner is no superuser, the market works and history stays as it is.

A check of a foreign key locks the row that it refers to, as the owner of that row's table, and
needs his privilege to update something of it. Superusers need no privileges, so the other tests
would not see one that is missing.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from django.db import DatabaseError, connection, transaction

from billing.models import Charge, Refund, RefundReason, StatementEntry, Transfer
from billing.refunds import charge_refund
from billing.statements.close import statement_close
from marketplace.core.clock import now
from marketplace.jobs import services
from tests.cast import Cast, make_cast, report_finished
from tests.invoicing import charge

OWN = """
DO $$
DECLARE
    v_name text;
BEGIN
    CREATE ROLE keeper NOSUPERUSER;
    GRANT USAGE, CREATE ON SCHEMA public TO keeper;
    FOR v_name IN SELECT oid::regclass FROM pg_class
        WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v')
    LOOP
        EXECUTE 'ALTER TABLE ' || v_name || ' OWNER TO keeper';
    END LOOP;
    FOR v_name IN SELECT p.oid::regprocedure FROM pg_proc p
        LEFT JOIN pg_depend d ON d.objid = p.oid AND d.deptype = 'e'
        WHERE p.pronamespace = 'public'::regnamespace AND d.objid IS NULL
    LOOP
        EXECUTE 'ALTER FUNCTION ' || v_name || ' OWNER TO keeper';
    END LOOP;
END $$;
SET ROLE keeper;
"""


@pytest.fixture
def kept(db: None) -> Iterator[Cast]:
    """Give all tables to a role with no special rights, and be that role."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(OWN)
        cast = make_cast()
        yield cast
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")  # what a commit would check
        cursor.execute("RESET ROLE")
        transaction.set_rollback(True)


def said(statement: str) -> str:
    """Return what PostgreSQL says to a statement; "done" if it does it."""
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(statement)
    except DatabaseError as error:
        return str(error).splitlines()[0]
    return "done"


def call(cast: Cast) -> Charge:
    job, _ = services.job_submit(org=cast.developer, ref=cast.ref, given={"prompt": "x"})
    services.job_finished(report_finished(job))
    return Charge.objects.get(pk=job.pk)


def test_calls_are_charged_and_refunded(kept: Cast) -> None:
    one = call(kept)
    assert one.amount_nano > 0
    charge_refund(source_id=one.pk, key="k", reason=RefundReason.STAFF)
    assert Refund.objects.get().amount_nano == one.amount_nano
    assert Transfer.objects.filter(reverses__isnull=False).exists()


def test_what_a_vendor_earned_is_stated(kept: Cast) -> None:
    month = (now().replace(day=1) - timedelta(days=1)).date().replace(day=1)
    then = datetime(month.year, month.month, 15, tzinfo=UTC)
    charge(kept.developer, kept.vendor, 5_000_000, at=then)
    found = statement_close(org_id=kept.vendor.pk, month=month)
    assert found is not None
    assert found.earned_nano == 4_000_000
    assert StatementEntry.objects.filter(statement=found).count() == 1


@pytest.mark.parametrize(
    ("statement", "answer"),
    [
        ("UPDATE billing_transfer SET amount_nano = 1", "permission denied"),
        ("UPDATE billing_transfer SET id = gen_random_uuid()", "append-only"),
        ("DELETE FROM billing_transfer", "permission denied"),
        ("TRUNCATE billing_transfer CASCADE", "permission denied"),
        ("UPDATE billing_charge SET amount_nano = amount_nano", "done"),
        ("UPDATE billing_charge SET vendor_id = org_id", "append-only"),
        ("DELETE FROM billing_charge", "permission denied"),
        ("UPDATE billing_account SET kind = 'loss'", "append-only"),
        ("DELETE FROM billing_account", "permission denied"),
        ("UPDATE catalog_licence SET id = gen_random_uuid()", "append-only"),
        ("UPDATE catalog_licence SET revenue_share_bps = 0", "permission denied"),
    ],
)
def test_history_cannot_be_rewritten(kept: Cast, statement: str, answer: str) -> None:
    call(kept)
    assert answer in said(statement)


def test_every_table_that_is_referred_to_can_be_locked(kept: Cast) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT DISTINCT confrelid::regclass::text FROM pg_constraint WHERE contype = 'f'"
        )
        tables = [row[0] for row in cursor.fetchall()]
    assert "billing_transfer" in tables
    answers = {table: said(f"SELECT FROM {table} FOR KEY SHARE") for table in tables}
    assert {table: answer for table, answer in answers.items() if answer != "done"} == {}
