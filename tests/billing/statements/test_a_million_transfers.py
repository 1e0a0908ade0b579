"""A month of a million ledger rows is previewed, closed, exported and audited in good time."""

import time
from datetime import date

import pytest
from django.db import connection

from billing.models import StatementEntry, Transfer
from billing.statements.close import statement_preview, statements_close
from billing.statements.export import statement_csv
from billing.statements.rules import STATEMENTS
from tests.billing.statements.market import buyer, organisation, payout_account

CALLS = 333_334
GROSS, SHARE = 1_000_003, 800_002
LOAD = """
    CREATE TEMP TABLE load AS
        SELECT md5('s' || i)::uuid AS id, (%(vendors)s)[1 + i %% 10] AS vendor,
               timestamptz '2026-11-01 00:00Z' + i * interval '7 seconds' AS at
        FROM generate_series(1, %(calls)s) i;
    INSERT INTO billing_hold (source_id, org_id, amount_nano, wallet_nano, shard, state,
                              cap_subjects, created_at, ended_at)
        SELECT id, %(payer)s, %(gross)s, %(gross)s, 0, 'captured', '{}', at, at FROM load;
    INSERT INTO billing_charge (source_id, org_id, vendor_id, version_id, price_id, model_ref,
            unit, quantity, quote_nano, amount_nano, granted_nano, prepaid_nano, postpaid_nano,
            vendors_nano, fee_nano, lines, shares, occurred_at)
        SELECT id, %(payer)s, vendor, md5(vendor::text || (extract(epoch FROM at)::bigint %% 5))::uuid,
               vendor, 'v/m', 'image', 1, %(gross)s, %(gross)s, 0, %(gross)s, 0, %(share)s,
               %(gross)s - %(share)s, '[]', jsonb_build_array(jsonb_build_object('org_id', vendor,
               'bps', 8000, 'version_id',
               md5(vendor::text || (extract(epoch FROM at)::bigint %% 5))::uuid,
               'amount_nano', %(share)s::bigint)), at FROM load;
    INSERT INTO billing_transfer (id, debit_id, credit_id, amount_nano, kind, source_id, leg,
                                  occurred_at, created_at)
        SELECT md5(id::text || ':' || kind || ':0')::uuid, debit, credit, amount, kind, id, 0, at, at
        FROM load CROSS JOIN LATERAL (VALUES
            (billing_account(%(payer)s, 'wallet'), billing_account(NULL, 'clearing'),
             %(gross)s::bigint, 'fund_prepaid'),
            (billing_account(NULL, 'clearing'), billing_account(vendor, 'payable'),
             %(share)s::bigint, 'share'),
            (billing_account(NULL, 'clearing'), billing_account(NULL, 'revenue'),
             %(gross)s::bigint - %(share)s, 'fee')) rows (debit, credit, amount, kind);
    UPDATE billing_walletshard SET prepaid_nano = prepaid_nano - %(gross)s::bigint * %(calls)s
        WHERE org_id = %(payer)s;
    ANALYZE billing_transfer; ANALYZE billing_charge;
"""  # noqa: E501


def rows_of(sql):
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchall()


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.django_db
def test_a_million_transfers_are_closed_in_a_minute(at):
    payer = buyer("bob", prepaid=GROSS * CALLS)
    vendors = [organisation(f"seller{n}") for n in range(10)]
    for vendor in vendors:
        payout_account(vendor)
    with connection.cursor() as cursor:
        for vendor in vendors:
            cursor.execute("SELECT billing_account(%s, 'payable')", [vendor.pk])
        cursor.execute(
            LOAD,
            {
                "vendors": [vendor.pk for vendor in vendors], "payer": payer.pk,
                "calls": CALLS, "gross": GROSS, "share": SHARE,
            },
        )  # fmt: skip
    assert Transfer.objects.count() > 1_000_000
    at("2026-12-04")
    took = {}

    def timed(name, call):
        begun = time.monotonic()
        result = call()
        took[name] = round(time.monotonic() - begun, 2)
        return result

    timed("preview_of_one_s", lambda: statement_preview(vendors[0].pk, date(2026, 11, 1)))
    closed = timed("close_s", lambda: list(statements_close(month=date(2026, 11, 1))))
    assert len(closed) == 10
    assert sum(row.earned_nano for row in closed) == SHARE * CALLS
    assert StatementEntry.objects.count() == CALLS
    with timed("csv_of_one_s", lambda: statement_csv(closed[0])) as file:
        assert sum(1 for _ in file) > CALLS // 10

    for rule, sql in STATEMENTS.items():
        assert timed(rule, lambda sql=sql: rows_of(sql)) == []
    print(took)
    assert took["close_s"] < 60
