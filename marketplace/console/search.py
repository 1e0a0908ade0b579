"""One box over everything: exact ids first, then Stripe's ids, then names and addresses."""

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from django.db.models import Model as Row
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_safe

from billing.models import (
    Charge,
    Dispute,
    Grant,
    Invoice,
    Payout,
    PayoutAccount,
    Refund,
    StripeEvent,
    TopUp,
    TopUpReturn,
    Transfer,
    Wallet,
)
from marketplace.accounts import tokens
from marketplace.accounts.models import ApiKey, Organisation, User
from marketplace.catalog.models import Model, Version
from marketplace.console.access import needs
from marketplace.jobs.models import Job

MOST = 10


@dataclass(frozen=True, slots=True)
class Hit:
    """One row that was found, and its page."""

    label: str
    note: str
    url: str


@dataclass(frozen=True, slots=True)
class Hits:
    """Rows of one kind."""

    kind: str
    rows: list[Hit]


def _change(row: Row) -> str:
    meta = row._meta
    return reverse(f"admin:{meta.app_label}_{meta.model_name}_change", args=[row.pk])


def _story(row: Any) -> str:
    return reverse("admin:story", args=[row.pk])


def _org(row: Any) -> str:
    return reverse("admin:organisation", args=[row.slug])


def _org_of(row: Any) -> str:
    return reverse("admin:organisation", args=[row.org.slug])


@dataclass(frozen=True, slots=True)
class _Table:
    """Where to look: `exact` are fields with an id, `text` fields with words."""

    kind: str
    rows: "QuerySet[Any]"
    page: Callable[[Any], str]
    note: Callable[[Any], str]
    exact: tuple[str, ...] = ()
    stripe: tuple[tuple[str, str], ...] = ()
    text: tuple[str, ...] = ()
    starts: tuple[str, ...] = ()


def _tables() -> list[_Table]:
    """Return every table that is searched, in the order of the answer."""
    return [*_calls(), *_payments(), *_market()]


def _calls() -> list[_Table]:
    return [
        _Table(
            "Jobs", Job.objects.select_related("org", "version__model__org"), _story,
            lambda row: f"{row.status}, {row.org.name}, {row.version}", exact=("pk",),
        ),
        _Table(
            "Charges", Charge.objects.select_related("org"), _story,
            lambda row: f"{row.org.name}, {row.model_ref}", exact=("pk",),
        ),
        _Table(
            "Refunds", Refund.objects.select_related("org"),
            lambda row: reverse("admin:story", args=[row.charge_id]),
            lambda row: f"{row.org.name}, {row.get_reason_display()}", exact=("pk",),
        ),
        _Table(
            "Invoices", Invoice.objects.select_related("org"), _change,
            lambda row: f"{row.org.name}, {row.month:%B %Y}, {row.status}", exact=("pk",),
            stripe=(("in_", "stripe_invoice_id"),), starts=("number",),
        ),
    ]  # fmt: skip


def _payments() -> list[_Table]:
    return [
        _Table(
            "Payouts", Payout.objects.select_related("org", "statement"), _change,
            lambda row: f"{row.org.name}, {row.state}", exact=("pk",),
            stripe=(("tr_", "stripe_transfer_id"),), starts=("statement__number",),
        ),
        _Table(
            "Top-ups", TopUp.objects.select_related("org"), _change,
            lambda row: f"{row.org.name}, {row.state}", exact=("pk",),
            stripe=(("pi_", "payment_intent_id"), ("cs_", "checkout_id")),
        ),
        _Table(
            "Money sent back", TopUpReturn.objects.select_related("org"), _change,
            lambda row: f"{row.org.name}, {row.state}", exact=("pk",),
            stripe=(("re_", "stripe_refund_id"),),
        ),
        _Table(
            "Disputes", Dispute.objects.select_related("org"), _change,
            lambda row: f"{row.org.name}, {row.state}",
            stripe=(("dp_", "pk"), ("du_", "pk"), ("pi_", "payment_intent_id")),
        ),
        _Table(
            "Stripe’s webhooks", StripeEvent.objects.defer("payload"),
            lambda row: reverse("admin:queue-row", args=["stripeevent", row.pk]),
            lambda row: f"{row.type}, {row.delivery}",
            stripe=(("evt_", "pk"),),
        ),
        _Table(
            "Customers at Stripe", Wallet.objects.select_related("org"), _org_of,
            lambda row: row.org.name,
            stripe=(("cus_", "stripe_customer_id"), ("sub_", "stripe_subscription_id")),
        ),
        _Table(
            "Vendors at Stripe", PayoutAccount.objects.select_related("org"), _org_of,
            lambda row: row.org.name, stripe=(("acct_", "stripe_account_id"),),
        ),
        _Table(
            "Transfers", Transfer.objects.select_related("debit__org", "credit__org"),
            lambda row: reverse("admin:transfers") + f"?source={row.source_id}",
            lambda row: f"{row.debit} to {row.credit}", exact=("pk",),
        ),
        _Table(
            "Grants", Grant.objects.select_related("org"), _org_of,
            lambda row: f"{row.org.name}, {row.note}", exact=("pk",),
        ),
    ]  # fmt: skip


def _market() -> list[_Table]:
    return [
        _Table(
            "Organisations", Organisation.objects.all(), _org, lambda row: row.slug,
            exact=("pk",), text=("slug", "name"),
        ),
        _Table(
            "People", User.objects.all(), lambda row: reverse("admin:person", args=[row.pk]),
            lambda row: row.name, exact=("pk",), text=("email", "name"),
        ),
        _Table(
            "Models", Model.objects.select_related("org"), _change, lambda row: row.title,
            exact=("pk",), text=("name", "title"),
        ),
        _Table(
            "Versions", Version.objects.select_related("model__org"),
            lambda row: reverse("admin:review-version", args=[row.pk]), lambda row: row.status,
            exact=("pk", "weights_digest"),
        ),
        _Table(
            "API keys", ApiKey.objects.select_related("org"), _change,
            lambda row: f"{row.org.name}, {'usable' if row.is_usable else 'ended'}",
            exact=("pk",), starts=("prefix",),
        ),
    ]  # fmt: skip


def _condition(table: _Table, text: str) -> Q | None:
    """Return what to look for in a table, or None if `text` cannot be in it."""
    found = Q()
    for field in table.exact:
        if field != "pk":
            found |= Q(**{field: text})
        elif (key := _uuid(text)) is not None:
            found |= Q(pk=key)
    for prefix, field in table.stripe:
        if text.startswith(prefix):
            found |= Q(**{field: text})
    # Anything but an id is looked for by two letters at least.
    if len(text) >= 2 and _uuid(text) is None:
        for field in table.starts:
            found |= Q(**{f"{field}__startswith": text})
        for field in table.text:
            found |= Q(**{f"{field}__icontains": text})
        if table.kind == "Models" and "/" in text:
            vendor, _, name = text.partition("/")
            found |= Q(org__slug=vendor, name__startswith=name.partition(":")[0])
    return found or None


def _uuid(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text)
    except ValueError:
        return None


def search(request: HttpRequest, text: str) -> Iterator[Hits]:
    """Yield what there is of each kind that the member of staff may see."""
    # The visible beginning of a key is all that is known of it, even if all of it is pasted.
    text = text[: tokens.VISIBLE] if text.startswith(tokens.KEY_PREFIX) else text
    for table in _tables():
        meta = table.rows.model._meta
        seen = (f"{meta.app_label}.{verb}_{meta.model_name}" for verb in ("view", "change"))
        condition = _condition(table, text)
        if condition is None or not any(request.user.has_perm(name) for name in seen):
            continue
        rows = table.rows.filter(condition)[:MOST]
        hits = [Hit(str(row), table.note(row), table.page(row)) for row in rows]
        if hits:
            yield Hits(table.kind, hits)


@require_safe
@needs()
def page(request: HttpRequest) -> HttpResponse:
    """Show what was found; an exact id with one page opens it at once."""
    text = request.GET.get("q", "").strip()[:200].replace("\x00", "")
    found = list(search(request, text)) if text else []
    pages = {hit.url for group in found for hit in group.rows}
    if _uuid(text) is not None and len(pages) == 1:
        return redirect(pages.pop())
    context = {"title": "Search", "search_text": text, "found": found, "most": MOST}
    return render(request, "console/search.html", context)
