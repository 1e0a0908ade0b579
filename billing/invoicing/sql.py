"""The close in sets: each statement works on the invoices of many organisations at once."""

# ruff: noqa: S608 -- only constants of this module go into the queries

CENT = 10_000_000
"""Nano-USD in a cent."""

_KEYS = "model_ref, version_id, price_id, unit, month"
_MONTH = "date_trunc('month', c.occurred_at AT TIME ZONE 'UTC')::date"
_CALL = f"""c.model_ref, c.version_id, c.price_id, c.unit, {_MONTH} AS month"""


def members(charges: str, refunds: str, *, stored: bool = True) -> str:
    """Return the rows of invoices: charges and, with the opposite sign, refunds.

    `charges` and `refunds` are conditions on `c` and on `r` (and its `c`). Columns: invoice_id,
    the keys of a line, calls, quantity, granted, prepaid, postpaid. Without `stored` all rows
    are taken for those of one invoice.
    """
    own, back = ("c.invoice_id", "r.invoice_id") if stored else ("1 AS invoice_id", "1")
    return f"""
        SELECT {own}, {_CALL}, 1 AS calls, c.quantity,
               c.granted_nano AS granted, c.prepaid_nano AS prepaid, c.postpaid_nano AS postpaid
        FROM billing_charge c WHERE {charges}
        UNION ALL
        SELECT {back}, {_CALL}, 0, 0, -r.granted_nano, -r.prepaid_nano, -r.postpaid_nano
        FROM billing_refund r JOIN billing_charge c ON c.source_id = r.charge_id
        WHERE {refunds}"""


def half_even(nano: str) -> str:
    """Return the expression of nano-USD in whole cents, rounded half to even."""
    whole = f"floor(({nano})::numeric / {CENT})"
    rest = f"(({nano})::numeric - {whole} * {CENT})"
    return (
        f"({whole} + CASE WHEN {rest} > {CENT // 2} OR ({rest} = {CENT // 2}"
        f" AND mod({whole}, 2) <> 0) THEN 1 ELSE 0 END)::bigint"
    )


def lines(rows: str) -> str:
    """Return the query that makes lines of `rows`, with the cents due on each.

    The invoice's postpaid part is rounded once, half to even. Each line gets its part rounded
    down, and the cents that are then missing go to the lines that lost most: the sum is exact.
    """
    down = f"floor(postpaid::numeric / {CENT})"
    return f"""
        WITH line AS (
            SELECT invoice_id, {_KEYS}, sum(calls)::int AS calls, sum(quantity) AS quantity,
                   sum(granted)::bigint AS granted, sum(prepaid)::bigint AS prepaid,
                   sum(postpaid)::bigint AS postpaid
            FROM ({rows}) member GROUP BY invoice_id, {_KEYS}
        ), ranked AS (
            SELECT line.*, {down} AS cents,
                   sum({down}) OVER whole AS cents_sum,
                   greatest(0, {half_even("sum(postpaid) OVER whole")}) AS due,
                   row_number() OVER (PARTITION BY invoice_id
                                      ORDER BY postpaid - {down} * {CENT} DESC, {_KEYS}) AS loss,
                   row_number() OVER (PARTITION BY invoice_id
                                      ORDER BY month DESC, {_KEYS}) AS position
            FROM line WINDOW whole AS (PARTITION BY invoice_id)
        )
        SELECT invoice_id, position, {_KEYS}, calls, quantity,
               granted + prepaid + postpaid AS amount, granted, prepaid, postpaid,
               (cents + CASE WHEN loss <= due - cents_sum THEN 1 ELSE 0 END)::bigint AS due_cents
        FROM ranked ORDER BY invoice_id, position"""


ORGS_TO_CLOSE = """
    SELECT org_id FROM billing_charge
    WHERE invoice_id IS NULL AND amount_nano > 0 AND occurred_at < %(end)s
    UNION SELECT r.org_id FROM billing_refund r JOIN billing_charge c ON c.source_id = r.charge_id
    LEFT JOIN billing_invoice i ON i.id = c.invoice_id
    WHERE r.invoice_id IS NULL AND r.credit_note_id IS NULL AND r.occurred_at < %(end)s
      AND i.status IS DISTINCT FROM 'draft'
    UNION SELECT org_id FROM billing_invoice WHERE month = %(month)s AND status = 'draft'"""

DRAFTS_MAKE = """
    INSERT INTO billing_invoice
        (id, org_id, month, status, granted_nano, prepaid_nano, postpaid_nano, due_cents,
         paid_cents, bill_to, stripe_invoice_id, created_at)
    SELECT md5('invoice:' || org || ':' || %(month)s::date)::uuid, org, %(month)s, 'draft',
           0, 0, 0, 0, 0, '{}', '', %(now)s
    FROM unnest(%(orgs)s::uuid[]) org ON CONFLICT (org_id, month) DO NOTHING"""

DRAFTS_LOCK = """
    SELECT id FROM billing_invoice
    WHERE org_id = ANY(%(orgs)s) AND month = %(month)s AND status = 'draft'
    ORDER BY id FOR UPDATE"""

CHARGES_ASSIGN = """
    UPDATE billing_charge c SET invoice_id = i.id FROM billing_invoice i
    WHERE i.id = ANY(%(drafts)s) AND c.org_id = i.org_id AND c.invoice_id IS NULL
      AND c.amount_nano > 0 AND c.occurred_at < %(end)s"""

REFUNDS_ASSIGN = """
    UPDATE billing_refund r SET invoice_id = i.id
    FROM billing_invoice i, billing_charge c LEFT JOIN billing_invoice own ON own.id = c.invoice_id
    WHERE i.id = ANY(%(drafts)s) AND r.org_id = i.org_id AND c.source_id = r.charge_id
      AND r.invoice_id IS NULL AND r.credit_note_id IS NULL
      AND (own.id = i.id OR (r.occurred_at < %(end)s AND own.status <> 'draft'))"""

LINES_CLEAR = "DELETE FROM billing_invoiceline WHERE invoice_id = ANY(%(drafts)s)"

LINES_WRITE = f"""
    INSERT INTO billing_invoiceline
        (invoice_id, position, {_KEYS}, calls, quantity, amount_nano, granted_nano, prepaid_nano,
         postpaid_nano, due_cents)
    {lines(members("c.invoice_id = ANY(%(drafts)s)", "r.invoice_id = ANY(%(drafts)s)"))}"""

TOTALS_WRITE = """
    UPDATE billing_invoice i
    SET granted_nano = COALESCE(l.granted, 0), prepaid_nano = COALESCE(l.prepaid, 0),
        postpaid_nano = COALESCE(l.postpaid, 0), due_cents = COALESCE(l.due, 0), held = ''
    FROM unnest(%(drafts)s::uuid[]) draft LEFT JOIN (
        SELECT invoice_id, sum(granted_nano) AS granted, sum(prepaid_nano) AS prepaid,
               sum(postpaid_nano) AS postpaid, greatest(0, sum(due_cents)) AS due
        FROM billing_invoiceline WHERE invoice_id = ANY(%(drafts)s) GROUP BY invoice_id
    ) l ON l.invoice_id = draft
    WHERE i.id = draft"""

EMPTY_DROP = """
    DELETE FROM billing_invoice i WHERE i.id = ANY(%(drafts)s) AND i.stripe_invoice_id = ''
      AND NOT EXISTS (SELECT FROM billing_invoiceline l WHERE l.invoice_id = i.id)"""

# Kill Bill's safety bounds: something is wrong with an invoice that repeats itself, is below
# zero, or is far above what the customer is used to.
BOUNDS = """
    SELECT i.id, CASE
        WHEN i.postpaid_nano < 0 THEN 'below_zero'
        WHEN EXISTS (SELECT FROM billing_invoiceline l WHERE l.invoice_id = i.id
                     GROUP BY model_ref, version_id, price_id, unit, month
                     HAVING count(*) > 1) THEN 'repeats'
        WHEN i.approved_at IS NULL AND past.average IS NOT NULL
             AND i.granted_nano + i.prepaid_nano + i.postpaid_nano > %(floor)s
             AND i.granted_nano + i.prepaid_nano + i.postpaid_nano > %(times)s * past.average
            THEN 'surge' END AS why,
        COALESCE(past.average, 0)::bigint
    FROM billing_invoice i LEFT JOIN LATERAL (
        SELECT avg(p.granted_nano + p.prepaid_nano + p.postpaid_nano) AS average FROM (
            SELECT * FROM billing_invoice p WHERE p.org_id = i.org_id AND p.month < i.month
              AND p.status <> 'draft' ORDER BY p.month DESC LIMIT 6) p) past ON true
    WHERE i.id = ANY(%(drafts)s)"""

SEQUENCE_MAKE = """
    INSERT INTO billing_numbersequence (name, last) VALUES (%(name)s, 0)
    ON CONFLICT (name) DO NOTHING"""

# The row stays locked until the transaction ends: no number is given out that is not used.
SEQUENCE_TAKE = """
    UPDATE billing_numbersequence SET last = last + %(count)s WHERE name = %(name)s
    RETURNING last - %(count)s"""

ISSUE = """
    UPDATE billing_invoice i
    SET number = n.prefix || lpad(n.number::text, greatest(6, length(n.number::text)), '0'),
        status = CASE WHEN i.due_cents > 0 THEN 'open' ELSE 'paid' END,
        issued_at = %(now)s, paid_at = CASE WHEN i.due_cents > 0 THEN NULL ELSE %(now)s END,
        held = '', bill_to = n.bill_to
    FROM (
        SELECT d.id, %(prefix)s AS prefix,
               %(past)s + row_number() OVER (ORDER BY o.slug) AS number,
               jsonb_build_object(
                   'name', o.name, 'legal_name', COALESCE(p.legal_name, ''),
                   'email', COALESCE(p.email, ''), 'address', COALESCE(p.address, ''),
                   'country', COALESCE(NULLIF(p.country, ''), o.country),
                   'tax_id_type', COALESCE(p.tax_id_type, ''),
                   'tax_id', COALESCE(p.tax_id, '')) AS bill_to
        FROM billing_invoice d JOIN accounts_organisation o ON o.id = d.org_id
        LEFT JOIN billing_billingprofile p ON p.org_id = d.org_id
        WHERE d.id = ANY(%(drafts)s)
    ) n WHERE i.id = n.id AND i.id = ANY(%(drafts)s) AND i.status = 'draft'"""

_ROUNDING = f"""
    SELECT i.id, i.org_id, i.due_cents * {CENT} - i.postpaid_nano AS change
    FROM billing_invoice i JOIN billing_wallet w ON w.org_id = i.org_id
    WHERE i.id = ANY(%(drafts)s) AND i.due_cents * {CENT} <> i.postpaid_nano"""

ROUNDING_OF_SHARDED = f"{_ROUNDING} AND w.shard_count > 1 ORDER BY i.org_id"

# One shard: nothing has to be spread, so that all can be done at once, the hot rows last.
ROUNDING_POST = f"""
    WITH part AS ({_ROUNDING} AND w.shard_count = 1 ORDER BY i.org_id),
    posted AS MATERIALIZED (
        SELECT org_id, change, billing_post(
            CASE WHEN change > 0 THEN billing_account(org_id, 'receivable')
                 ELSE billing_account(NULL, 'rounding') END,
            CASE WHEN change > 0 THEN billing_account(NULL, 'rounding')
                 ELSE billing_account(org_id, 'receivable') END,
            abs(change), 'rounding', id, 0, %(now)s) AS is_new
        FROM part)
    UPDATE billing_walletshard s SET owed_nano = s.owed_nano + posted.change
    FROM posted WHERE posted.is_new AND s.org_id = posted.org_id AND s.shard = 0"""

# Invoices first, then wallets, then shards, as for a single one; each in one order.
BALANCES_LOCK = (
    "SELECT FROM billing_invoice WHERE id = ANY(%(invoices)s) ORDER BY id FOR UPDATE",
    "SELECT FROM billing_wallet WHERE org_id = ANY(%(orgs)s) ORDER BY org_id FOR UPDATE",
    """SELECT FROM billing_walletshard WHERE org_id = ANY(%(orgs)s)
       ORDER BY org_id, shard FOR UPDATE""",
)

# What prepaid_apply does, for wallets that have one shard. An organisation has one invoice here.
BALANCES_APPLY = f"""
    WITH due AS (
        SELECT i.id, i.org_id, i.due_cents - i.paid_cents - COALESCE((
            SELECT sum(n.cents) FROM billing_creditnote n
            WHERE n.invoice_id = i.id AND NOT n.to_balance), 0)::bigint AS cents
        FROM billing_invoice i WHERE i.id = ANY(%(invoices)s) AND i.status = 'open'
          AND i.stripe_finalized_at IS NULL),
    covered AS (
        SELECT d.*, s.id AS shard_id FROM due d JOIN billing_walletshard s ON s.org_id = d.org_id
        WHERE d.cents > 0 AND d.cents * {CENT} <= LEAST(s.prepaid_nano, s.owed_nano)
          AND NOT EXISTS (SELECT FROM billing_walletshard o
                          WHERE o.org_id = d.org_id AND o.id <> s.id)
        ORDER BY d.org_id),
    posted AS MATERIALIZED (
        SELECT *, billing_post(billing_account(org_id, 'wallet'),
                               billing_account(org_id, 'receivable'),
                               cents * {CENT}, 'apply', id, 0, %(now)s) AS is_new
        FROM covered),
    taken AS (
        UPDATE billing_walletshard s SET prepaid_nano = s.prepaid_nano - p.cents * {CENT},
                                         owed_nano = s.owed_nano - p.cents * {CENT}
        FROM posted p WHERE p.is_new AND s.id = p.shard_id)
    UPDATE billing_invoice i SET status = 'paid', paid_cents = i.paid_cents + p.cents,
                                 paid_at = %(now)s
    FROM posted p WHERE p.is_new AND i.id = p.id"""
