"""The rules of money that comes in, as queries that select the rows that break them."""

PAYIN = {
    "every paid top-up is in the ledger once": """
        SELECT u.id::text, u.cents, t.amount_nano
        FROM billing_topup u
        LEFT JOIN billing_transfer t ON t.id = u.transfer_id
        LEFT JOIN billing_account c ON c.id = t.credit_id
        WHERE u.state = 'paid' AND (t.id IS NULL OR t.kind <> 'top_up'
              OR t.amount_nano <> u.cents * 10000000::bigint
              OR c.org_id <> u.org_id OR c.kind <> 'wallet')""",
    "every return of a top-up equals its ledger rows": """
        SELECT r.id::text, r.cents, COALESCE(t.gone, 0)
        FROM billing_topupreturn r LEFT JOIN (
            SELECT source_id,
                   sum(CASE WHEN mod(leg, 2) = 1 THEN -amount_nano ELSE amount_nano END) AS gone
            FROM billing_transfer WHERE kind = 'top_up_return' GROUP BY 1) t ON t.source_id = r.id
        WHERE COALESCE(t.gone, 0)
              <> CASE WHEN r.state = 'failed' THEN 0 ELSE r.cents * 10000000::bigint END""",
    "top-ups know what was returned of them": """
        SELECT u.id::text, u.returned_cents, COALESCE(r.cents, 0)
        FROM billing_topup u LEFT JOIN (
            SELECT top_up_id, sum(cents) AS cents FROM billing_topupreturn
            WHERE state <> 'failed' GROUP BY 1) r ON r.top_up_id = u.id
        WHERE u.returned_cents <> COALESCE(r.cents, 0)""",
    "every dispute equals its ledger rows": """
        SELECT d.id, d.state, d.cents, COALESCE(t.taken, 0), COALESCE(t.back, 0)
        FROM billing_dispute d
        LEFT JOIN billing_topup u ON u.payment_intent_id = d.payment_intent_id
        LEFT JOIN (
            SELECT source_id,
                   sum(amount_nano) FILTER (WHERE kind = 'dispute') AS taken,
                   sum(amount_nano) FILTER (WHERE kind = 'dispute_won') AS back
            FROM billing_transfer GROUP BY 1) t ON t.source_id = d.source_id
        WHERE COALESCE(t.taken, 0) <> d.wallet_nano + d.owed_nano
           OR COALESCE(t.back, 0) <> CASE WHEN d.state = 'won' THEN COALESCE(t.taken, 0) ELSE 0 END
           OR (d.state <> 'won' AND COALESCE(t.taken, 0) <> 10000000::bigint * COALESCE(
               (d.cents::bigint * u.cents + u.cents + u.tax_cents - 1)
               / (u.cents + u.tax_cents), d.cents))""",
}
