"""What must always hold of statements and payouts, as SQL that selects what breaks it."""

# ruff: noqa: S608 -- only constants of this module go into the queries

_CENT = 10_000_000

_STATED = """
    SELECT e.statement_id, e.line,
           COALESCE(sum(t.amount_nano) FILTER (WHERE c.id IS NOT NULL), 0) AS earned,
           COALESCE(sum(t.amount_nano) FILTER (WHERE d.id IS NOT NULL), 0) AS clawed,
           bool_or(t.kind = 'payout' OR COALESCE(c.org_id, d.org_id) IS DISTINCT FROM s.org_id
                   OR t.occurred_at >= (s.month + interval '1 month') AT TIME ZONE 'UTC') AS wrong
    FROM billing_statemententry e JOIN billing_statement s ON s.id = e.statement_id
    JOIN billing_transfer t ON t.id = e.transfer_id
    LEFT JOIN billing_account c ON c.id = t.credit_id AND c.kind = 'payable'
    LEFT JOIN billing_account d ON d.id = t.debit_id AND d.kind = 'payable'
    GROUP BY 1, 2"""
_MOVED = """
    SELECT a.org_id, t.id, t.kind, t.amount_nano AS amount FROM billing_account a
    JOIN billing_transfer t ON t.credit_id = a.id WHERE a.kind = 'payable'
    UNION ALL
    SELECT a.org_id, t.id, t.kind, -t.amount_nano FROM billing_account a
    JOIN billing_transfer t ON t.debit_id = a.id WHERE a.kind = 'payable'"""

STATEMENTS = {
    "statements equal their lines": """
        SELECT s.id::text, s.earned_nano, l.earned, s.clawed_back_nano, l.clawed
        FROM billing_statement s LEFT JOIN (
            SELECT statement_id, sum(earned_nano) AS earned, sum(clawed_back_nano) AS clawed
            FROM billing_statementline GROUP BY 1) l ON l.statement_id = s.id
        WHERE s.earned_nano <> COALESCE(l.earned, 0)
           OR s.clawed_back_nano <> COALESCE(l.clawed, 0)""",
    "statement lines equal their own vendor's transfers": f"""
        SELECT COALESCE(l.statement_id, e.statement_id)::text, COALESCE(l.position, e.line),
               l.earned_nano, e.earned, l.clawed_back_nano, e.clawed, e.wrong
        FROM billing_statementline l FULL JOIN ({_STATED}) e
          ON e.statement_id = l.statement_id AND e.line = l.position
        WHERE l.id IS NULL OR e.line IS NULL OR l.earned_nano <> e.earned
           OR l.clawed_back_nano <> e.clawed OR e.wrong""",
    "what one statement carries on, the next one takes in": """
        SELECT s.id::text, s.carried_in_nano, s.before
        FROM (SELECT *, lag(carried_out_nano, 1, 0::bigint)
                            OVER (PARTITION BY org_id ORDER BY month) AS before
              FROM billing_statement) s
        WHERE s.carried_in_nano <> s.before""",
    "what a vendor is owed is unstated, carried or on its way": f"""
        SELECT p.org_id::text, p.balance, p.unstated, s.carried, o.cents
        FROM (SELECT m.org_id, sum(m.amount) AS balance,
                     COALESCE(sum(m.amount) FILTER (
                         WHERE m.kind <> 'payout' AND e.transfer_id IS NULL), 0) AS unstated
              FROM ({_MOVED}) m LEFT JOIN billing_statemententry e ON e.transfer_id = m.id
              GROUP BY m.org_id) p
        LEFT JOIN (SELECT DISTINCT ON (org_id) org_id, carried_out_nano AS carried
                   FROM billing_statement ORDER BY org_id, month DESC) s USING (org_id)
        LEFT JOIN (SELECT org_id, sum(cents) AS cents FROM billing_payout
                   WHERE state = 'intent' GROUP BY org_id) o USING (org_id)
        WHERE p.balance <> p.unstated + COALESCE(s.carried, 0)
                           + COALESCE(o.cents, 0) * {_CENT}""",
    "a payout is within what was payable": f"""
        SELECT s.id::text, s.payout_cents, p.cents
        FROM billing_statement s FULL JOIN billing_payout p ON p.statement_id = s.id
        WHERE s.payout_cents <> COALESCE(p.cents, 0) OR s.org_id <> p.org_id
           OR (s.payout_cents > 0 AND s.payout_cents * {_CENT} >
               s.carried_in_nano + s.earned_nano - s.clawed_back_nano)
           OR s.status <> CASE WHEN p.cents IS NULL THEN 'carried'
                               WHEN p.state = 'intent' THEN 'payable' ELSE 'paid' END""",
    "payouts equal their ledger rows": f"""
        SELECT COALESCE(p.statement_id, t.source_id)::text, p.state, p.cents, t.amount_nano,
               p.reversed_cents, r.amount
        FROM billing_payout p
        FULL JOIN (SELECT * FROM billing_transfer WHERE kind = 'payout') t
          ON t.source_id = p.statement_id
        LEFT JOIN (SELECT reverses_id, sum(amount_nano) AS amount FROM billing_transfer
                   WHERE kind = 'payout_return' GROUP BY 1) r ON r.reverses_id = t.id
        WHERE p.statement_id IS NULL
           OR COALESCE(t.amount_nano, 0) <> CASE WHEN p.state = 'intent' THEN 0
                                                 ELSE p.cents * {_CENT} END
           OR COALESCE(r.amount, 0) <> p.reversed_cents * {_CENT}
           OR (p.state = 'returned') <> (p.reversed_cents = p.cents)
           OR (p.state = 'intent') <> (p.stripe_transfer_id = '')""",
    "statements of a month are numbered without gaps": """
        SELECT month::text, count(*), max(right(number, 6)::int)
        FROM billing_statement GROUP BY month
        HAVING count(*) <> max(right(number, 6)::int)""",
}
