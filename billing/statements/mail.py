"""Writes to vendors: a statement is there, a payout is on its way, a bank has refused one.

What was written is noted on the row, so that a mail that could not be sent is sent later; one
that was sent just before a crash may come twice.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from django.conf import settings
from django.core.mail import send_mail
from django.db import transaction
from django.db.models import QuerySet
from django.template.loader import render_to_string
from django.urls import reverse

from billing.customers import email_of
from billing.mail import MailServerAway, Outcome, mail_try
from billing.models import Payout, PayoutAccount, PayoutState, Statement
from billing.statements.draft import CENT_NANO
from marketplace.accounts.models import Organisation
from marketplace.core.clock import now

_CHUNK = 100


def vendors_mail() -> int:
    """Send the mails that are due. Returns how many were sent."""
    paid = Payout.objects.exclude(state=PayoutState.INTENT).select_related("statement")
    wrong = PayoutAccount.objects.exclude(problem="")
    return (
        _send_all(Statement.objects.filter(mailed_at=None), "mailed_at", _statement)
        + _send_all(paid.filter(mailed_at=None), "mailed_at", _payout)
        + _send_all(wrong.filter(problem_mailed_at=None), "problem_mailed_at", _problem)
    )


def _send_all(rows: "QuerySet[Any]", mark: str, write: Callable[[Any], None]) -> int:
    sent = 0
    for pk in list(rows.values_list("pk", flat=True)):
        if sent >= _CHUNK:
            break
        with transaction.atomic():
            row = rows.select_for_update(skip_locked=True, of=("self",)).filter(pk=pk).first()
            if row is None:
                continue
            try:
                outcome = mail_try(f"{row._meta.model_name}:{mark}:{pk}", partial(write, row))
            except MailServerAway:
                return sent
            if outcome is Outcome.LATER:
                continue
            type(row)._default_manager.filter(pk=pk).update(**{mark: now()})
            sent += outcome is Outcome.SENT
    return sent


def _write(org: Organisation, template: str, subject: str, context: dict[str, Any]) -> None:
    to = email_of(org)
    if not to:
        return
    text = render_to_string(f"emails/{template}.txt", {"org": org, **context})
    send_mail(f"{settings.ACCOUNT_EMAIL_SUBJECT_PREFIX}{subject}", text, None, [to])


def _page(name: str, *args: Any) -> str:
    return f"{settings.PUBLIC_URL}{reverse(name, args=args)}"


def _statement(row: Statement) -> None:
    _write(
        row.org,
        "statement",
        f"Your statement for {row.month:%B %Y}",
        {
            "statement": row,
            "payout_nano": row.payout_cents * CENT_NANO,
            "url": _page("vendor-statement", row.pk),
        },
    )


def _payout(row: Payout) -> None:
    _write(
        row.org,
        "payout",
        "A payout is on its way",
        {
            "statement": row.statement,
            "payout_nano": row.cents * CENT_NANO,
            "url": _page("vendor-statement", row.pk),
        },
    )


def _problem(row: PayoutAccount) -> None:
    _write(
        row.org,
        "payout_problem",
        "Your bank refused a payout",
        {"account": row, "url": _page("vendor-payouts")},
    )
