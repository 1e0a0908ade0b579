"""What must always be true of the money, as queries that return the rows that break it."""

from dataclasses import dataclass
from typing import Any

import structlog
from django.db import connection, transaction

from billing.models import Incident
from marketplace.core.clock import now

log = structlog.get_logger("mercato.billing.invariants")

RULES: dict[str, str] = {
    "prepaid balance equals the replayed ledger": """
        SELECT org_id::text, w.prepaid_nano, l.balance
        FROM billing_wallet w FULL JOIN (
            SELECT a.org_id, sum(CASE WHEN t.credit_id = a.id THEN t.amount_nano
                                      ELSE -t.amount_nano END) AS balance
            FROM billing_account a JOIN billing_transfer t ON a.id IN (t.debit_id, t.credit_id)
            WHERE a.kind = 'wallet' GROUP BY a.org_id) l USING (org_id)
        WHERE COALESCE(w.prepaid_nano, 0) <> COALESCE(l.balance, 0)""",
    "owed balance equals the replayed ledger": """
        SELECT org_id::text, w.owed_nano, l.balance
        FROM billing_wallet w FULL JOIN (
            SELECT a.org_id, sum(CASE WHEN t.debit_id = a.id THEN t.amount_nano
                                      ELSE -t.amount_nano END) AS balance
            FROM billing_account a JOIN billing_transfer t ON a.id IN (t.debit_id, t.credit_id)
            WHERE a.kind = 'receivable' GROUP BY a.org_id) l USING (org_id)
        WHERE COALESCE(w.owed_nano, 0) <> COALESCE(l.balance, 0)""",
    "held equals the open holds": """
        SELECT org_id::text, w.held_nano, h.held
        FROM billing_wallet w FULL JOIN (
            SELECT org_id, sum(amount_nano) AS held FROM billing_hold
            WHERE state = 'open' GROUP BY org_id) h USING (org_id)
        WHERE COALESCE(w.held_nano, 0) <> COALESCE(h.held, 0)""",
    "budgets equal their holds and charges": """
        SELECT c.subject_id::text, c.held_nano, c.spent_nano
        FROM billing_spendcap c LEFT JOIN (
            SELECT h.cap_subject_id, h.cap_month,
                   COALESCE(sum(h.amount_nano) FILTER (WHERE h.state = 'open'), 0) AS held,
                   COALESCE(sum(ch.amount_nano), 0) AS spent
            FROM billing_hold h LEFT JOIN billing_charge ch USING (source_id)
            WHERE h.cap_subject_id IS NOT NULL GROUP BY 1, 2) s
          ON s.cap_subject_id = c.subject_id AND s.cap_month = c.month
        WHERE c.held_nano <> COALESCE(s.held, 0) OR c.spent_nano <> COALESCE(s.spent, 0)""",
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
    "every charge equals its ledger rows": """
        SELECT ch.source_id::text, ch.amount_nano, COALESCE(t.prepaid, 0),
               COALESCE(t.postpaid, 0), COALESCE(t.shares, 0), COALESCE(t.fee, 0)
        FROM billing_charge ch LEFT JOIN (
            SELECT source_id,
                   sum(amount_nano) FILTER (WHERE kind = 'fund_prepaid') AS prepaid,
                   sum(amount_nano) FILTER (WHERE kind = 'fund_postpaid') AS postpaid,
                   sum(amount_nano) FILTER (WHERE kind = 'share') AS shares,
                   sum(amount_nano) FILTER (WHERE kind = 'fee') AS fee
            FROM billing_transfer GROUP BY source_id) t USING (source_id)
        WHERE ch.prepaid_nano <> COALESCE(t.prepaid, 0)
           OR ch.postpaid_nano <> COALESCE(t.postpaid, 0)
           OR ch.vendors_nano <> COALESCE(t.shares, 0) OR ch.fee_nano <> COALESCE(t.fee, 0)""",
    "every ended hold has one charge within it": """
        SELECT h.source_id::text, h.state, h.amount_nano, ch.amount_nano
        FROM billing_hold h FULL JOIN billing_charge ch USING (source_id)
        WHERE (h.source_id IS NULL) OR (h.state = 'open') <> (ch.source_id IS NULL)
           OR ch.amount_nano > h.amount_nano""",
    "meter batches carry every micro-dollar": """
        SELECT b.org_id::text, b.funding, b.sequence, b.micro_usd
        FROM (SELECT *, lag(cumulative_nano, 1, 0::bigint) OVER w AS past,
                        lag(sequence, 1, 0) OVER w AS previous
              FROM billing_meterbatch
              WINDOW w AS (PARTITION BY org_id, funding ORDER BY sequence)) b
        WHERE b.cumulative_nano <> b.past + b.amount_nano OR b.sequence <> b.previous + 1
           OR b.micro_usd <> b.cumulative_nano / 1000 - b.past / 1000""",
    "meter batches equal their charges": """
        SELECT b.id::text, b.amount_nano, COALESCE(c.amount, 0)
        FROM billing_meterbatch b LEFT JOIN (
            SELECT prepaid_batch_id AS id, sum(prepaid_nano) AS amount FROM billing_charge
            WHERE prepaid_batch_id IS NOT NULL GROUP BY 1
            UNION ALL
            SELECT postpaid_batch_id, sum(postpaid_nano) FROM billing_charge
            WHERE postpaid_batch_id IS NOT NULL GROUP BY 1) c USING (id)
        WHERE b.amount_nano <> COALESCE(c.amount, 0)""",
}


def register(rule: str, sql: str) -> None:
    """Add a rule of another domain: `sql` selects the rows that break it."""
    RULES[rule] = sql


@dataclass(frozen=True, slots=True)
class Finding:
    """The rows (at most 20) that break a rule; none if it holds."""

    rule: str
    rows: list[tuple[Any, ...]]


def audit() -> list[Finding]:
    """Check every rule on one snapshot of the database."""
    findings = []
    with transaction.atomic(), connection.cursor() as cursor:
        if not connection.savepoint_ids:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        for rule, sql in RULES.items():
            cursor.execute(f"SELECT * FROM ({sql}) broken LIMIT 20")  # noqa: S608  (RULES only)
            findings.append(Finding(rule, cursor.fetchall()))
    return findings


def totals() -> dict[str, int]:
    """Return debits, credits and the balance of each kind of account, in nano-USD."""
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT a.kind,
                      COALESCE(sum(t.amount_nano) FILTER (WHERE t.debit_id = a.id), 0)::bigint,
                      COALESCE(sum(t.amount_nano) FILTER (WHERE t.credit_id = a.id), 0)::bigint
               FROM billing_account a
               LEFT JOIN billing_transfer t ON a.id IN (t.debit_id, t.credit_id)
               GROUP BY a.kind"""
        )
        rows = cursor.fetchall()
    result = {f"balance_{kind}": credit - debit for kind, debit, credit in rows}
    result["debits"] = sum(row[1] for row in rows)
    result["credits"] = sum(row[2] for row in rows)
    return result


def incident_open(rule: str, detail: str) -> None:
    """Open an incident, unless one is open for the rule: staff close it."""
    log.error("incident", rule=rule, detail=detail[:500])
    Incident.objects.get_or_create(
        rule=rule[:60], resolved_at=None, defaults={"detail": detail[:4000], "opened_at": now()}
    )
