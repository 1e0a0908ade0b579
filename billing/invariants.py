"""What must always be true of the money, as queries that return the rows that break it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog
from django.core.cache import cache
from django.db import connection, transaction

from billing import rules
from billing.models import Incident
from marketplace.core.clock import now

log = structlog.get_logger("mercato.billing.invariants")
_LAST = "billing.audit.last"

RULES: dict[str, str] = dict(rules.RULES)


def register(rule: str, sql: str) -> None:
    """Add a rule of another domain: `sql` selects the rows that break it."""
    RULES[rule] = sql


CHECKS: dict[str, Callable[[], Sequence[tuple[Any, ...]]]] = {}


def register_check(name: str, function: Callable[[], Sequence[tuple[Any, ...]]]) -> None:
    """Add a rule of another domain that SQL cannot say: `function` returns what breaks it."""
    CHECKS[name] = function


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
        findings += [Finding(name, list(check())[:20]) for name, check in CHECKS.items()]
    return findings


def audit_remember(found: Sequence[Finding]) -> None:
    """Keep what an audit found for `audit_last`, if Valkey is there: nothing depends on it."""
    broken = {
        finding.rule: [[str(cell) for cell in row] for row in finding.rows] for finding in found
    }
    try:
        cache.set(_LAST, {"at": now().isoformat(), "findings": broken}, timeout=None)
    except Exception as error:  # whatever the cache raises
        log.warning("an audit is not remembered", error=repr(error))


def audit_last() -> tuple[datetime, list[Finding]] | None:
    """Return when the rules were last checked and what was found, cells as text; None if unknown.

    It is kept in Valkey: while that is away, or was emptied, nothing is known.
    """
    try:
        if not (kept := cache.get(_LAST)):
            return None
        findings = [
            Finding(rule, [tuple(row) for row in rows]) for rule, rows in kept["findings"].items()
        ]
        return datetime.fromisoformat(kept["at"]), findings
    except Exception as error:  # whatever the cache raises, or was put there by another release
        log.warning("the last audit is not known", error=repr(error))
        return None


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
