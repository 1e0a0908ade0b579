"""Reads of statements and payouts, always of one vendor."""

from django.conf import settings
from django.db.models import Q, QuerySet, Sum
from django.db.models.functions import Coalesce

from billing.models import NO_VERSION, Payout, PayoutAccount, Statement
from billing.services import month_of
from billing.statements.close import statement_preview
from billing.statements.draft import Draft
from marketplace.accounts.models import Organisation
from marketplace.core.clock import now
from marketplace.core.errors import NotFound
from marketplace.core.ids import parse_id


def statements_of(org: Organisation) -> "QuerySet[Statement]":
    """Return a vendor's statements, the newest month first, with their payouts."""
    returned = Sum("lines__earned_nano", filter=Q(lines__version_id=NO_VERSION))
    rows = Statement.objects.for_org(org).annotate(returned=Coalesce(returned, 0))
    return rows.select_related("payout__org").order_by("-month")


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
    if payout.org.suspended_at is not None:
        return "Waits: your organisation is suspended"
    if payout.needs_approval:
        is_large = 0 < settings.PAYOUT_REVIEW_CENTS < payout.cents
        why = "it is a large one" if is_large else "it is your first one"
        if payout.last_error:  # it was to be sent, and was held back
            why = "it was held while your organisation was suspended"
        return f"Waits for a look by staff: {why}"
    return "Waits to be sent" if payout.last_error else "Being sent"
