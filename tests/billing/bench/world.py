"""Fills a database with customers, vendors and a history, by plain SQL, for measurements."""

from __future__ import annotations

import psycopg

CUSTOMERS = 1000
VENDORS = 20

ORGS = """
INSERT INTO accounts_organisation (id, slug, name, about, website, country, webhook_secret,
                                   created_at)
SELECT md5(%(kind)s || n)::uuid, %(kind)s || '-' || n, %(kind)s || ' ' || n, '', '', 'DE', '',
       now()
FROM generate_series(1, %(count)s) n
"""
WALLETS = """
INSERT INTO billing_wallet (org_id, shard_count, stripe_customer_id, stripe_customer_attempt)
SELECT md5('buyer' || n)::uuid, 1, '', 0 FROM generate_series(1, %(count)s) n;
"""
TOP_UPS = """
SELECT billing_top_up(md5('buyer' || n)::uuid, gen_random_uuid(), 1000000000000, now())
FROM generate_series(1, %(count)s) n
"""
# One charge in four is owed, the others were paid in advance; all with two shares and a fee.
HISTORY = """
CREATE TEMP TABLE made AS
SELECT gen_random_uuid() AS id, n,
       md5('buyer' || (1 + n %% %(customers)s))::uuid AS org,
       md5('vendor' || (1 + n %% 20))::uuid AS vendor, md5('vendor' || (1 + (n + 7) %% 20))::uuid
           AS base,
       (4000000 + n %% 1000)::bigint AS amount, (n / 7) %% 4 = 0 AS owed,
       %(start)s::timestamptz + (n %% 2419200) * interval '1 second' AS at
FROM generate_series(1, %(charges)s) n;
CREATE INDEX ON made (org);
INSERT INTO billing_hold (source_id, org_id, amount_nano, wallet_nano, shard, state, cap_subjects,
                          created_at, ended_at)
SELECT id, org, amount, amount, 0, 'captured', '{}', at, at FROM made;
INSERT INTO billing_charge (source_id, org_id, vendor_id, version_id, price_id, model_ref, unit,
    quantity, quote_nano, amount_nano, granted_nano, prepaid_nano, postpaid_nano, vendors_nano,
    fee_nano, lines, shares, occurred_at)
SELECT id, org, vendor, vendor, vendor, 'vendor/model-' || n %% 5, 'image', 1, amount, amount, 0,
       CASE WHEN owed THEN 0 ELSE amount END, CASE WHEN owed THEN amount ELSE 0 END,
       amount * 7000 / 10000 + amount * 1000 / 10000,
       amount - amount * 7000 / 10000 - amount * 1000 / 10000, '[]',
       jsonb_build_array(
           jsonb_build_object('org_id', vendor, 'bps', 7000, 'version_id', vendor,
                              'amount_nano', amount * 7000 / 10000),
           jsonb_build_object('org_id', base, 'bps', 1000, 'version_id', base,
                              'amount_nano', amount * 1000 / 10000)), at
FROM made;
WITH legs AS (
    SELECT id, at, 0 AS leg, CASE WHEN owed THEN 'fund_postpaid' ELSE 'fund_prepaid' END AS kind,
           billing_account(org, CASE WHEN owed THEN 'receivable' ELSE 'wallet' END) AS debit,
           billing_account(NULL, 'clearing') AS credit, amount FROM made
    UNION ALL SELECT id, at, 0, 'share', billing_account(NULL, 'clearing'),
           billing_account(vendor, 'payable'), amount * 7000 / 10000 FROM made
    UNION ALL SELECT id, at, 1, 'share', billing_account(NULL, 'clearing'),
           billing_account(base, 'payable'), amount * 1000 / 10000 FROM made
    UNION ALL SELECT id, at, 0, 'fee', billing_account(NULL, 'clearing'),
           billing_account(NULL, 'revenue'),
           amount - amount * 7000 / 10000 - amount * 1000 / 10000 FROM made)
INSERT INTO billing_transfer (id, debit_id, credit_id, amount_nano, kind, source_id, leg,
                              occurred_at, created_at)
SELECT md5(id::text || ':' || kind || ':' || leg)::uuid, debit, credit, amount, kind, id, leg,
       at, at
FROM legs;
UPDATE billing_walletshard w
SET prepaid_nano = prepaid_nano - s.paid, owed_nano = owed_nano + s.owed
FROM (SELECT org, COALESCE(sum(amount) FILTER (WHERE NOT owed), 0) AS paid,
             COALESCE(sum(amount) FILTER (WHERE owed), 0) AS owed FROM made GROUP BY org) s
WHERE w.org_id = s.org;
DROP TABLE made;
"""


CLEAR = """
TRUNCATE billing_transfer, billing_charge, billing_draw, billing_hold, billing_meterbatch,
         billing_walletshard, billing_wallet, billing_account CASCADE;
DELETE FROM accounts_organisation;
"""


def clear(connection: psycopg.Connection) -> None:
    """Forget all money and all organisations."""
    connection.execute(CLEAR)


def people(connection: psycopg.Connection, *, customers: int = CUSTOMERS) -> None:
    """Make vendors, and customers with a thousand dollars each."""
    connection.execute(ORGS, {"kind": "vendor", "count": VENDORS})
    connection.execute(ORGS, {"kind": "buyer", "count": customers})
    connection.execute(WALLETS, {"count": customers})
    connection.execute("""INSERT INTO billing_walletshard
        (org_id, shard, prepaid_nano, owed_nano, held_nano, limit_nano)
        SELECT org_id, 0, 0, 0, 0, 0 FROM billing_wallet""")
    connection.execute(TOP_UPS, {"count": customers})
    connection.execute("VACUUM ANALYZE")


def history(connection: psycopg.Connection, *, charges: int, customers: int, start: str) -> None:
    """Write `charges` charges with four transfers each, over four weeks from `start`."""
    values = {"charges": charges, "customers": customers, "start": start}
    with connection.transaction():
        for statement in HISTORY.split(";\n"):
            if statement.strip():
                cursor = psycopg.ClientCursor(
                    connection
                )  # binds on our side: DDL has no parameters
                cursor.execute(statement, values)
    connection.execute("VACUUM ANALYZE")
