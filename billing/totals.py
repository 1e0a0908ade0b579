"""Six totals of usage on credit, from the ledger to the bank, and why they differ."""

# ruff: noqa: S608 -- only constants of this module go into the queries

from dataclasses import dataclass

from django.db import connection

from billing.invoicing.sql import CENT


@dataclass(frozen=True, slots=True)
class Total:
    """One total in nano-USD, with the reasons why the next one is less: (reason, amount)."""

    name: str
    what: str
    amount_nano: int
    gaps: tuple[tuple[str, int], ...] = ()

    @property
    def unexplained_nano(self) -> int:
        """What the reasons do not account for: an error somewhere unless it is 0."""
        return sum(amount for reason, amount in self.gaps if not reason)


def _off_debt(*kinds: str) -> str:
    """Return the query of how much transfers of some kinds have taken off debts, in the ledger."""
    names = ", ".join(f"'{kind}'" for kind in kinds)
    return f"""
        SELECT sum(CASE WHEN c.kind = 'receivable' THEN t.amount_nano ELSE -t.amount_nano END)
        FROM billing_transfer t JOIN billing_account c ON c.id = t.credit_id
        JOIN billing_account d ON d.id = t.debit_id
        WHERE t.kind IN ({names}) AND 'receivable' IN (c.kind, d.kind)"""


_SUMS = {
    "charged": "SELECT sum(amount_nano) FROM billing_transfer WHERE kind = 'fund_postpaid'",
    "refunded": "SELECT sum(postpaid_nano) FROM billing_refund WHERE credit_note_id IS NULL",
    "unsealed": """
        SELECT sum(nano) FROM (
            SELECT postpaid_nano AS nano FROM billing_charge WHERE postpaid_batch_id IS NULL
            UNION ALL SELECT -postpaid_nano FROM billing_refund
            WHERE postpaid_batch_id IS NULL AND credit_note_id IS NULL) rest""",
    "batched": "SELECT sum(amount_nano) FROM billing_meterbatch WHERE funding = 'postpaid'",
    "waiting": """SELECT sum(micro_usd) * 1000 FROM billing_meterbatch
                  WHERE funding = 'postpaid' AND delivery = 'pending'""",
    "failed": """SELECT sum(micro_usd) * 1000 FROM billing_meterbatch
                 WHERE funding = 'postpaid' AND delivery = 'failed'""",
    "accepted": """SELECT sum(micro_usd) * 1000 FROM billing_meterbatch
                   WHERE funding = 'postpaid' AND delivery = 'delivered'""",
    "visible": """SELECT sum(seen_micro_usd) * 1000 FROM billing_meterhour
                  WHERE funding = 'postpaid'""",
    "compared": """SELECT sum(sent_micro_usd) * 1000 FROM billing_meterhour
                   WHERE funding = 'postpaid'""",
    "uninvoiced": """
        SELECT sum(nano) FROM (
            SELECT c.postpaid_nano AS nano FROM billing_charge c
            LEFT JOIN billing_invoice i ON i.id = c.invoice_id
            WHERE COALESCE(i.status, 'draft') = 'draft'
            UNION ALL SELECT -r.postpaid_nano FROM billing_refund r
            LEFT JOIN billing_invoice i ON i.id = r.invoice_id
            WHERE r.credit_note_id IS NULL AND COALESCE(i.status, 'draft') = 'draft') rest""",
    "invoiced": f"SELECT sum(due_cents) * {CENT} FROM billing_invoice WHERE status <> 'draft'",
    "rounded": _off_debt("rounding"),
    "credited": f"SELECT sum(cents) * {CENT} FROM billing_creditnote WHERE NOT to_balance",
    "open": f"""
        SELECT sum(i.due_cents - i.paid_cents - COALESCE(n.cents, 0)) * {CENT}
        FROM billing_invoice i LEFT JOIN (
            SELECT invoice_id, sum(cents) AS cents FROM billing_creditnote WHERE NOT to_balance
            GROUP BY 1) n ON n.invoice_id = i.id WHERE i.status = 'open'""",
    "given_up": _off_debt("write_off"),
    "collected": _off_debt("payment", "apply"),
}


def _sums() -> dict[str, int]:
    columns = ", ".join(f"COALESCE(({sql}), 0)::bigint" for sql in _SUMS.values())
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {columns}")
        return dict(zip(_SUMS, cursor.fetchone(), strict=True))


def _total(name: str, what: str, amount: int, following: int, *gaps: tuple[str, int]) -> Total:
    """Return a total; what `gaps` leave of the difference to the following one has no reason."""
    rest = amount - following - sum(nano for _, nano in gaps)
    known = [gap for gap in gaps if gap[1]]
    return Total(name, what, amount, (*known, *([("", rest)] if rest else [])))


def six_totals() -> list[Total]:
    """Return ledger, batched, accepted, visible, invoiced and collected, all time, in nano-USD.

    Each names why the next is less. Visible and invoiced have no order of their own: invoiced is
    explained from the ledger.
    """
    s = _sums()
    ledger = s["charged"] - s["refunded"]
    part = s["batched"] - s["waiting"] - s["failed"] - s["accepted"]
    return [
        _total(
            "ledger",
            "Charged on credit, less what was given back before it was invoiced",
            ledger,
            s["batched"],
            ("in no batch yet", s["unsealed"]),
        ),
        _total(
            "batched",
            "Sealed into meter batches",
            s["batched"],
            s["accepted"],
            ("waiting to be sent", s["waiting"]),
            ("refused or in doubt", s["failed"]),
            ("parts of a micro-dollar, carried on", part),
        ),
        _total(
            "accepted",
            "Accepted by Stripe",
            s["accepted"],
            s["visible"],
            ("not compared yet", s["accepted"] - s["compared"]),
        ),
        _total(
            "visible",
            "Counted in Stripe's hour summaries",
            s["visible"],
            s["invoiced"],
            ("on no invoice yet", s["uninvoiced"]),
            ("parts of a cent", s["rounded"]),
            ("not counted by Stripe: the gaps above", s["visible"] - ledger),
        ),
        _total(
            "invoiced",
            "Due on issued invoices",
            s["invoiced"],
            s["collected"],
            ("open", s["open"]),
            ("taken back by credit notes", s["credited"]),
            ("given up", s["given_up"]),
        ),
        _total("collected", "Paid, by card, transfer or balance", s["collected"], s["collected"]),
    ]
