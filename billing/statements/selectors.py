"""Reads of statements and payouts, always of one vendor."""

from django.conf import settings
from django.db.models import QuerySet

from billing.models import Payout, PayoutAccount, Statement
from billing.services import month_of
from billing.statements.close import statement_preview
from billing.statements.draft import Draft
from marketplace.accounts.models import Organisation
from marketplace.core.clock import now
from marketplace.core.errors import NotFound
from marketplace.core.ids import parse_id


def statements_of(org: Organisation) -> "QuerySet[Statement]":
    """Return a vendor's statements, the newest month first, with their payouts."""
    return Statement.objects.for_org(org).select_related("payout").order_by("-month")


def statement_get(*, org: Organisation, statement_id: object) -> Statement:
    """Return a vendor's statement. Raises NotFound, also for another vendor's."""
    found = statements_of(org).filter(pk=parse_id(statement_id)).first()
    if found is None:
        raise NotFound("There is no such statement.")
    return found


def preview_of(org: Organisation) -> Draft:
    """Return what the statement of the running month would be now."""
    return statement_preview(org.pk, month_of(now()))


def payout_of(statement: Statement) -> Payout | None:
    """Return the payout of a statement, if it has one."""
    return getattr(statement, "payout", None)


def payout_account_of(org: Organisation) -> PayoutAccount:
    """Return a vendor's payout account; one that is not stored if there is none yet."""
    return PayoutAccount.objects.for_org(org).first() or PayoutAccount(org=org)


def payout_words(payout: Payout | None) -> str:
    """Say how a payout stands."""
    if payout is None:
        return ""
    if payout.state == "returned":
        return "Taken back"
    if payout.reversed_cents:
        return "Sent, part of it taken back"
    if payout.state == "sent":
        return "Sent to your account at Stripe"
    if payout.needs_approval:
        is_large = 0 < settings.PAYOUT_REVIEW_CENTS < payout.cents
        why = "it is a large one" if is_large else "it is your first one"
        return f"Waits for a look by staff: {why}"
    return "Waits to be sent" if payout.last_error else "Being sent"
