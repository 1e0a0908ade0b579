"""What must always be true of invoices, as queries that select the rows that break it."""

# ruff: noqa: S608 -- only constants of this module go into the queries

from billing.invoicing.sql import CENT, half_even

_ISSUED = "i.status <> 'draft'"

# What calls and invoices say an organisation owes, and what the ledger says of the same.
_OWED = f"""
    SELECT org_id, sum(nano) AS nano FROM (
        SELECT i.org_id, (i.due_cents - i.paid_cents - COALESCE(n.cents, 0)) * {CENT} AS nano
        FROM billing_invoice i LEFT JOIN (
            SELECT invoice_id, sum(cents) AS cents FROM billing_creditnote
            WHERE NOT to_balance GROUP BY 1) n ON n.invoice_id = i.id
        WHERE i.status = 'open'
        UNION ALL
        SELECT c.org_id, c.postpaid_nano FROM billing_charge c
        LEFT JOIN billing_invoice i ON i.id = c.invoice_id
        WHERE c.postpaid_nano > 0 AND (i.id IS NULL OR i.status = 'draft')
        UNION ALL
        SELECT r.org_id, -r.postpaid_nano FROM billing_refund r
        LEFT JOIN billing_invoice i ON i.id = r.invoice_id
        WHERE r.postpaid_nano > 0 AND r.credit_note_id IS NULL
          AND (i.id IS NULL OR i.status = 'draft')
    ) parts GROUP BY org_id"""
_BOOKED = """
    SELECT a.org_id, sum(CASE WHEN t.debit_id = a.id THEN t.amount_nano
                              ELSE -t.amount_nano END) AS nano
    FROM billing_account a JOIN billing_transfer t ON a.id IN (t.debit_id, t.credit_id)
    WHERE a.kind = 'receivable' AND t.kind IN ('fund_postpaid', 'refund_postpaid', 'rounding',
                                               'payment', 'apply', 'write_off')
    GROUP BY a.org_id"""

RULES = {
    "every invoice equals its charges less refunds": """
        SELECT i.id::text, i.number, i.granted_nano, i.prepaid_nano, i.postpaid_nano
        FROM billing_invoice i LEFT JOIN (
            SELECT invoice_id, sum(granted) AS granted, sum(prepaid) AS prepaid,
                   sum(postpaid) AS postpaid
            FROM (SELECT invoice_id, granted_nano AS granted, prepaid_nano AS prepaid,
                         postpaid_nano AS postpaid FROM billing_charge
                  UNION ALL
                  SELECT invoice_id, -granted_nano, -prepaid_nano, -postpaid_nano
                  FROM billing_refund) part
            WHERE invoice_id IS NOT NULL GROUP BY invoice_id) p ON p.invoice_id = i.id
        WHERE i.granted_nano <> COALESCE(p.granted, 0)
           OR i.prepaid_nano <> COALESCE(p.prepaid, 0)
           OR i.postpaid_nano <> COALESCE(p.postpaid, 0)""",
    "the lines of an invoice add up to it": f"""
        SELECT i.id::text, i.number, i.due_cents, l.due
        FROM billing_invoice i LEFT JOIN (
            SELECT invoice_id, sum(granted_nano) AS granted, sum(prepaid_nano) AS prepaid,
                   sum(postpaid_nano) AS postpaid, sum(due_cents) AS due
            FROM billing_invoiceline GROUP BY invoice_id) l ON l.invoice_id = i.id
        WHERE i.granted_nano <> COALESCE(l.granted, 0)
           OR i.prepaid_nano <> COALESCE(l.prepaid, 0)
           OR i.postpaid_nano <> COALESCE(l.postpaid, 0)
           OR ({_ISSUED} AND i.due_cents <> COALESCE(l.due, 0))""",
    "an invoice is due its postpaid part, rounded once": f"""
        SELECT i.id::text, i.number, i.postpaid_nano, i.due_cents FROM billing_invoice i
        WHERE {_ISSUED} AND i.due_cents <> {half_even("i.postpaid_nano")}""",
    "a charge is on its own organisation's invoice": """
        SELECT c.source_id::text, i.number FROM billing_charge c
        JOIN billing_invoice i ON i.id = c.invoice_id WHERE i.org_id <> c.org_id
        UNION ALL
        SELECT r.id::text, i.number FROM billing_refund r
        JOIN billing_invoice i ON i.id = r.invoice_id
        WHERE i.org_id <> r.org_id OR r.credit_note_id IS NOT NULL""",
    "an invoice is paid what the ledger says": f"""
        SELECT i.id::text, i.number, i.paid_cents, COALESCE(t.nano, 0), COALESCE(n.cents, 0)
        FROM billing_invoice i
        LEFT JOIN (SELECT source_id, sum(amount_nano) AS nano FROM billing_transfer
                   WHERE kind IN ('payment', 'apply') GROUP BY 1) t ON t.source_id = i.id
        LEFT JOIN (SELECT invoice_id, sum(cents) AS cents FROM billing_creditnote
                   WHERE NOT to_balance GROUP BY 1) n ON n.invoice_id = i.id
        WHERE i.paid_cents * {CENT} <> COALESCE(t.nano, 0)
           OR i.paid_cents + COALESCE(n.cents, 0) > i.due_cents
           OR (i.status = 'paid' AND i.paid_cents + COALESCE(n.cents, 0) <> i.due_cents)""",
    "a credit note gives money back only for a paid invoice": """
        SELECT n.number, i.status FROM billing_creditnote n
        JOIN billing_invoice i ON i.id = n.invoice_id WHERE n.to_balance AND i.status <> 'paid'
        UNION ALL
        SELECT n.number, 'written off' FROM billing_creditnote n
        JOIN billing_refund r ON r.credit_note_id = n.id
        JOIN billing_transfer t ON t.source_id = r.id AND t.kind = 'refund_postpaid'
        JOIN billing_account a ON a.id = t.credit_id WHERE n.to_balance AND a.kind = 'loss'""",
    "numbers of invoices have no gaps": """
        SELECT prefix, count(*), max(number) FROM (
            SELECT left(number, 7) AS prefix, substr(number, 8)::int AS number
            FROM billing_invoice WHERE number IS NOT NULL) n
        GROUP BY prefix HAVING count(*) <> max(number) OR min(number) <> 1
        UNION ALL
        SELECT id::text, NULL, NULL FROM billing_invoice
        WHERE (status = 'draft') <> (number IS NULL)""",
    "what calls and invoices say is owed is in the ledger": f"""
        SELECT org_id::text, o.nano, b.nano
        FROM ({_OWED}) o FULL JOIN ({_BOOKED}) b USING (org_id)
        WHERE COALESCE(o.nano, 0) <> COALESCE(b.nano, 0)""",
}
