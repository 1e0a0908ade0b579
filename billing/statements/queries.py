"""The SQL of statements: transfers traced to their charges, and summed into lines at once.

One statement of SQL reads, sums and, at a close, writes, so that all of it sees one snapshot.
"""

# ruff: noqa: S608 -- only constants of this module go into the queries

# What comes in is for a charge of its own; only what takes a share back has an original.
_IN = """t.id, t.kind, t.occurred_at, t.source_id, NULL::uuid AS original_id,
       t.source_id AS charge_id, t.leg, t.amount_nano AS amount"""
_OUT = """t.id, t.kind, t.occurred_at, t.source_id, o.id,
       COALESCE(o.source_id, t.source_id), COALESCE(o.leg, t.leg), -t.amount_nano"""
_ORIGINAL = "LEFT JOIN billing_transfer o ON o.id = t.reverses_id AND t.kind = 'refund_share'"
_FREE = """t.occurred_at < %(before)s AND t.kind <> 'payout' AND NOT EXISTS (
        SELECT FROM billing_statemententry e WHERE e.transfer_id = t.id)"""

_UNSTATED = f"""
    SELECT {_IN} FROM billing_transfer t WHERE t.credit_id = %(account)s AND {_FREE}
    UNION ALL
    SELECT {_OUT} FROM billing_transfer t {_ORIGINAL}
    WHERE t.debit_id = %(account)s AND {_FREE}"""

_ENTRIES = "billing_statemententry e JOIN billing_transfer t ON t.id = e.transfer_id"
_STATED = f"""
    SELECT {_IN}, e.line FROM {_ENTRIES}
    WHERE e.statement_id = %(statement)s AND t.credit_id = %(account)s
    UNION ALL
    SELECT {_OUT}, e.line FROM {_ENTRIES} {_ORIGINAL}
    WHERE e.statement_id = %(statement)s AND t.debit_id = %(account)s"""

_NO_VERSION = "'00000000-0000-0000-0000-000000000000'::uuid"

# What a transfer was for. A share counts when its charge needed no invoice or the invoice is
# paid, and its payer has paid before if it was paid by credit; what takes a share back counts
# together with it; anything else counts at once.
_DETAILS = f"""
    COALESCE(ch.model_ref, '') AS model_ref,
    COALESCE(ch.version_id, {_NO_VERSION}) AS version_id,
    NULLIF(ch.shares->m.leg->>'licence_id', '')::uuid AS licence_id,
    (ch.shares->m.leg->>'bps')::int AS bps,
    COALESCE((ch.shares->m.leg->>'version_id')::uuid <> ch.version_id, false) AS royalty,
    COALESCE(NULLIF(bp.country, ''), org.country, '') AS country,
    date_trunc('month', COALESCE(ch.occurred_at, m.occurred_at) AT TIME ZONE 'UTC')::date AS month,
    ch.amount_nano AS gross"""
_CHARGED = """
    LEFT JOIN billing_charge ch ON ch.source_id = m.charge_id
    LEFT JOIN accounts_organisation org ON org.id = ch.org_id
    LEFT JOIN billing_billingprofile bp ON bp.org_id = ch.org_id"""
# Credit is made for nothing: who only spends such has not shown to be a customer yet.
_NEVER_PAID = """%(hold_granted)s AND ch.granted_nano > 0 AND NOT EXISTS (
        SELECT FROM billing_account a JOIN billing_transfer p ON p.credit_id = a.id
        WHERE a.org_id = ch.org_id AND p.kind IN ('top_up', 'payment'))"""
_STATE = f"""CASE
        WHEN {_NEVER_PAID} AND NOT EXISTS (
             SELECT FROM billing_statemententry e WHERE e.transfer_id = m.original_id)
        THEN 'granted'
        WHEN ch.source_id IS NULL OR ch.postpaid_nano = 0 OR i.status = 'paid'
             OR (i.status = 'open' AND i.due_cents = 0) OR i.shares_fate <> ''
             OR EXISTS (SELECT FROM billing_statemententry e WHERE e.transfer_id = m.original_id)
        THEN 'available' WHEN i.status IS NULL OR i.status = 'draft' THEN 'uninvoiced'
        ELSE i.status END"""
_KEY = "model_ref, version_id, royalty, licence_id, country, month"

_TRACED = f"""
    WITH moved AS ({_UNSTATED}), traced AS MATERIALIZED (
        SELECT m.*, {_DETAILS}, {_STATE} AS state
        FROM moved m {_CHARGED} LEFT JOIN billing_invoice i ON i.id = ch.invoice_id
    ), numbered AS MATERIALIZED (
        SELECT *, dense_rank() OVER (ORDER BY {_KEY}) AS line FROM traced
        WHERE state = 'available'
    )"""
_LINES = f"""
    SELECT line AS position, {_KEY}, count(*) FILTER (WHERE kind = 'share') AS calls,
           COALESCE(sum(amount) FILTER (WHERE amount > 0), 0)::bigint AS earned_nano,
           COALESCE(-sum(amount) FILTER (WHERE amount < 0), 0)::bigint AS clawed_back_nano
    FROM numbered GROUP BY line, {_KEY}"""
_ANSWER = """
    SELECT COALESCE((SELECT json_agg(line ORDER BY position) FROM line), '[]'),
           COALESCE((SELECT json_agg(p) FROM (
               SELECT state, sum(amount)::bigint AS amount_nano,
                      count(*) FILTER (WHERE kind = 'share') AS calls,
                      bool_or(occurred_at >= %(since)s) AS fresh
               FROM traced WHERE state <> 'available' GROUP BY state ORDER BY state) p), '[]')"""

PREVIEW = f"{_TRACED}, line AS ({_LINES}) {_ANSWER}"
"""Parameters account, before, since, hold_granted (whether shares of credit of payers that
have never paid wait). Answers (lines, what is pending by state), both as JSON."""

CLOSE = f"""{_TRACED}, entry AS (
        INSERT INTO billing_statemententry (transfer_id, statement_id, line)
        SELECT id, %(statement)s, line FROM numbered
    ), line AS (
        INSERT INTO billing_statementline
            (statement_id, position, {_KEY}, calls, earned_nano, clawed_back_nano)
        SELECT %(statement)s, position, {_KEY}, calls, earned_nano, clawed_back_nano
        FROM ({_LINES}) lines RETURNING *
    ) {_ANSWER}"""
"""As PREVIEW, and binds the transfers and lines to `statement`, which is inserted after it."""

WANTED = f"""
    SELECT o.id FROM accounts_organisation o
    JOIN billing_account a ON a.org_id = o.id AND a.kind = 'payable'
    WHERE NOT EXISTS (SELECT FROM billing_statement s
                      WHERE s.org_id = o.id AND s.month >= %(month)s)
      AND (EXISTS (SELECT FROM billing_transfer t WHERE t.credit_id = a.id AND {_FREE})
        OR EXISTS (SELECT FROM billing_transfer t WHERE t.debit_id = a.id AND {_FREE})
        OR (SELECT s.carried_out_nano FROM billing_statement s WHERE s.org_id = o.id
            ORDER BY s.month DESC LIMIT 1) >= 10000000)
    ORDER BY o.id"""
"""Vendors that a month may have something to state for and that have no statement of it yet."""

_EXPORT = f"""
    SELECT s.number AS statement, to_char(m.occurred_at AT TIME ZONE 'UTC',
               'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS occurred_at,
           m.line, m.kind, m.charge_id AS job_id,
           CASE WHEN m.kind = 'share' THEN NULL ELSE m.source_id END AS source_id,
           l.model_ref AS model, l.version_id, l.licence_id, l.royalty,
           l.country AS payer_country, to_char(l.month, 'YYYY-MM') AS usage_month,
           d.gross AS gross_charge_nano_usd, d.bps AS share_bps, m.amount AS amount_nano_usd
    FROM ({_STATED}) m JOIN billing_statement s ON s.id = %(statement)s
    JOIN billing_statementline l ON l.statement_id = s.id AND l.position = m.line
    CROSS JOIN LATERAL (
        SELECT ch.amount_nano AS gross, (ch.shares->m.leg->>'bps')::int AS bps
        FROM (SELECT) one LEFT JOIN billing_charge ch ON ch.source_id = m.charge_id) d
    ORDER BY m.occurred_at, m.id"""
EXPORT = f"COPY ({_EXPORT}) TO STDOUT WITH (FORMAT csv, HEADER)"
"""Parameters account, statement. One row per transfer of a closed statement."""
