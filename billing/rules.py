"""The rules of the ledger as queries: each selects the rows that break it."""

# ruff: noqa: S608 -- only constants of this module go into the queries

from billing.invoicing.rules import RULES as INVOICES
from billing.rules_payin import PAYIN
from billing.statements.rules import STATEMENTS


def _balance(kind: str, sign: str) -> str:
    """Return a subquery (org_id, balance) of accounts of a kind; `sign` is the rising side."""
    return f"""
        SELECT a.org_id, sum(CASE WHEN t.{sign}_id = a.id THEN t.amount_nano
                                  ELSE -t.amount_nano END) AS balance
        FROM billing_account a JOIN billing_transfer t ON a.id IN (t.debit_id, t.credit_id)
        WHERE a.kind = '{kind}' GROUP BY a.org_id"""


def _wallet(column: str) -> str:
    """Return a subquery (org_id, amount) of one column over the shards of each wallet."""
    return f"""
        SELECT org_id, sum({column}) AS amount FROM billing_walletshard GROUP BY org_id
        """


WALLETS = {
    "prepaid balance equals the replayed ledger": f"""
        SELECT org_id::text, w.amount, l.balance
        FROM ({_wallet("prepaid_nano")}) w FULL JOIN ({_balance("wallet", "credit")}) l
          USING (org_id)
        WHERE COALESCE(w.amount, 0) <> COALESCE(l.balance, 0)""",
    "owed balance equals the replayed ledger": f"""
        SELECT org_id::text, w.amount, l.balance
        FROM ({_wallet("owed_nano")}) w FULL JOIN ({_balance("receivable", "debit")}) l
          USING (org_id)
        WHERE COALESCE(w.amount, 0) <> COALESCE(l.balance, 0)""",
    "grants left equal the replayed ledger": f"""
        SELECT org_id::text, g.amount, l.balance
        FROM (SELECT org_id, sum(remaining_nano) AS amount FROM billing_grant
              GROUP BY org_id) g FULL JOIN ({_balance("grant", "credit")}) l USING (org_id)
        WHERE COALESCE(g.amount, 0) <> COALESCE(l.balance, 0)""",
    "held equals the open holds": """
        SELECT COALESCE(w.org_id, h.org_id)::text, COALESCE(w.shard, h.shard), w.held_nano, h.held
        FROM billing_walletshard w FULL JOIN (
            SELECT org_id, shard, sum(wallet_nano) AS held FROM billing_hold
            WHERE state = 'open' AND wallet_nano > 0 GROUP BY org_id, shard) h
          ON h.org_id = w.org_id AND h.shard = w.shard
        WHERE COALESCE(w.held_nano, 0) <> COALESCE(h.held, 0)""",
    "grants hold what open draws hold": """
        SELECT g.id::text, g.held_nano, COALESCE(d.held, 0)
        FROM billing_grant g LEFT JOIN (
            SELECT d.grant_id, sum(d.held_nano) AS held FROM billing_draw d
            JOIN billing_hold h ON h.source_id = d.source_id
            WHERE h.state = 'open' GROUP BY d.grant_id) d ON d.grant_id = g.id
        WHERE g.held_nano <> COALESCE(d.held, 0)""",
    "a hold is its draws and its part of the wallet": """
        SELECT h.source_id::text, h.amount_nano, h.wallet_nano, COALESCE(d.held, 0)
        FROM billing_hold h LEFT JOIN (
            SELECT source_id, sum(held_nano) AS held FROM billing_draw GROUP BY 1) d
          USING (source_id)
        WHERE h.amount_nano <> h.wallet_nano + COALESCE(d.held, 0)""",
    "budgets equal their holds and charges": """
        SELECT c.subject_id::text, c.held_nano, c.spent_nano
        FROM billing_spendcap c LEFT JOIN (
            SELECT subject, h.cap_month,
                   COALESCE(sum(h.amount_nano) FILTER (WHERE h.state = 'open'), 0) AS held,
                   COALESCE(sum(ch.amount_nano), 0) AS spent
            FROM billing_hold h CROSS JOIN unnest(h.cap_subjects) subject
            LEFT JOIN billing_charge ch USING (source_id) GROUP BY 1, 2) s
          ON s.subject = c.subject_id AND s.cap_month = c.month
        WHERE c.held_nano <> COALESCE(s.held, 0) OR c.spent_nano <> COALESCE(s.spent, 0)""",
}

CHARGES = {
    "every charge passes through clearing whole": """
        SELECT t.source_id::text, sum(CASE WHEN c.kind = 'clearing' THEN t.amount_nano
                                           ELSE -t.amount_nano END)
        FROM billing_transfer t
        JOIN billing_account c ON c.id = t.credit_id
        JOIN billing_account d ON d.id = t.debit_id
        WHERE 'clearing' IN (c.kind, d.kind)
        GROUP BY t.source_id
        HAVING sum(CASE WHEN c.kind = 'clearing' THEN t.amount_nano
                        ELSE -t.amount_nano END) <> 0""",
    "every transfer is between accounts that are there": """
        SELECT t.id::text, t.debit_id, t.credit_id FROM billing_transfer t
        LEFT JOIN billing_account d ON d.id = t.debit_id
        LEFT JOIN billing_account c ON c.id = t.credit_id
        WHERE d.id IS NULL OR c.id IS NULL""",
    "a charge is its hold's payer's, for a vendor that is there": """
        SELECT ch.source_id::text, ch.org_id, ch.vendor_id, h.org_id AS payer
        FROM billing_charge ch LEFT JOIN billing_hold h USING (source_id)
        LEFT JOIN accounts_organisation v ON v.id = ch.vendor_id
        WHERE h.org_id IS DISTINCT FROM ch.org_id OR v.id IS NULL""",
    "every charge equals its ledger rows": """
        SELECT ch.source_id::text, ch.amount_nano, COALESCE(t.granted, 0),
               COALESCE(t.prepaid, 0), COALESCE(t.postpaid, 0), COALESCE(t.shares, 0),
               COALESCE(t.fee, 0)
        FROM billing_charge ch LEFT JOIN (
            SELECT source_id,
                   sum(amount_nano) FILTER (WHERE kind = 'fund_grant') AS granted,
                   sum(amount_nano) FILTER (WHERE kind = 'fund_prepaid') AS prepaid,
                   sum(amount_nano) FILTER (WHERE kind = 'fund_postpaid') AS postpaid,
                   sum(amount_nano) FILTER (WHERE kind = 'share') AS shares,
                   sum(amount_nano) FILTER (WHERE kind = 'fee') AS fee
            FROM billing_transfer GROUP BY source_id) t USING (source_id)
        WHERE ch.granted_nano <> COALESCE(t.granted, 0)
           OR ch.prepaid_nano <> COALESCE(t.prepaid, 0)
           OR ch.postpaid_nano <> COALESCE(t.postpaid, 0)
           OR ch.vendors_nano <> COALESCE(t.shares, 0) OR ch.fee_nano <> COALESCE(t.fee, 0)""",
    "every share is its part of the charge, rounded down": """
        SELECT ch.source_id::text, s.position, s.share::text, t.amount_nano, a.org_id::text
        FROM billing_charge ch
        CROSS JOIN jsonb_array_elements(ch.shares) WITH ORDINALITY AS s (share, position)
        LEFT JOIN billing_transfer t ON t.source_id = ch.source_id AND t.kind = 'share'
                                    AND t.leg = s.position - 1
        LEFT JOIN billing_account a ON a.id = t.credit_id
        WHERE ch.amount_nano > 0
          AND ((s.share->>'amount_nano')::numeric
                   <> floor(ch.amount_nano::numeric * (s.share->>'bps')::int / 10000)
               OR (s.share->>'amount_nano')::bigint <> COALESCE(t.amount_nano, 0)
               OR a.kind <> 'payable' OR a.org_id <> (s.share->>'org_id')::uuid)""",
    "every ended hold has one charge within it": """
        SELECT h.source_id::text, h.state, h.amount_nano, ch.amount_nano
        FROM billing_hold h FULL JOIN billing_charge ch USING (source_id)
        WHERE (h.source_id IS NULL) OR (h.state = 'open') <> (ch.source_id IS NULL)
           OR ch.amount_nano > h.amount_nano""",
    "grants paid what charges say": """
        SELECT ch.source_id::text, ch.granted_nano, COALESCE(d.captured, 0)
        FROM billing_charge ch LEFT JOIN (
            SELECT source_id, sum(captured_nano) AS captured FROM billing_draw GROUP BY 1) d
          USING (source_id)
        WHERE ch.granted_nano <> COALESCE(d.captured, 0)""",
    "refunds are within their charges": """
        SELECT ch.source_id::text, ch.amount_nano, r.amount
        FROM billing_charge ch JOIN (
            SELECT charge_id, sum(amount_nano) AS amount, sum(granted_nano) AS granted,
                   sum(vendors_nano) AS vendors, sum(fee_nano) AS fee
            FROM billing_refund GROUP BY charge_id) r ON r.charge_id = ch.source_id
        WHERE r.amount > ch.amount_nano OR r.granted > ch.granted_nano
           OR r.vendors > ch.vendors_nano OR r.fee > ch.fee_nano""",
    "every refund equals its ledger rows": """
        SELECT r.id::text, r.amount_nano
        FROM billing_refund r LEFT JOIN (
            SELECT source_id,
                   sum(amount_nano) FILTER (WHERE kind IN ('refund_grant', 'refund_prepaid',
                                                           'refund_postpaid')) AS back,
                   sum(amount_nano) FILTER (WHERE kind = 'refund_share') AS shares,
                   sum(amount_nano) FILTER (WHERE kind = 'refund_fee') AS fee
            FROM billing_transfer GROUP BY source_id) t ON t.source_id = r.id
        WHERE r.amount_nano <> COALESCE(t.back, 0) OR r.vendors_nano <> COALESCE(t.shares, 0)
           OR r.fee_nano <> COALESCE(t.fee, 0)""",
    "a reversal mirrors its original and is within it": """
        SELECT o.id::text, o.amount_nano, sum(r.amount_nano)
        FROM billing_transfer r JOIN billing_transfer o ON o.id = r.reverses_id
        GROUP BY o.id, o.amount_nano, o.debit_id, o.credit_id
        HAVING sum(r.amount_nano) > o.amount_nano
            OR bool_or(r.debit_id <> o.credit_id)""",
}

METERS = {
    "meter batches carry every micro-dollar": """
        SELECT b.org_id::text, b.funding, b.sequence, b.micro_usd
        FROM (SELECT *, lag(cumulative_nano, 1, 0::bigint) OVER w AS past,
                        lag(sequence, 1, 0) OVER w AS previous
              FROM billing_meterbatch
              WINDOW w AS (PARTITION BY org_id, funding ORDER BY sequence)) b
        WHERE b.cumulative_nano <> b.past + b.amount_nano OR b.sequence <> b.previous + 1
           OR b.micro_usd <> floor(b.cumulative_nano / 1000.0) - floor(b.past / 1000.0)""",
    "meter batches equal their charges less refunds": """
        SELECT b.id::text, b.amount_nano, COALESCE(c.amount, 0)
        FROM billing_meterbatch b LEFT JOIN (
            SELECT id, sum(amount) AS amount FROM (
                SELECT prepaid_batch_id AS id, granted_nano + prepaid_nano AS amount
                FROM billing_charge
                UNION ALL SELECT postpaid_batch_id, postpaid_nano FROM billing_charge
                UNION ALL SELECT prepaid_batch_id, -granted_nano - prepaid_nano
                FROM billing_refund
                UNION ALL SELECT postpaid_batch_id, -postpaid_nano FROM billing_refund) parts
            WHERE id IS NOT NULL GROUP BY id) c USING (id)
        WHERE b.amount_nano <> COALESCE(c.amount, 0)""",
}

RULES = WALLETS | CHARGES | METERS | PAYIN | INVOICES | STATEMENTS
