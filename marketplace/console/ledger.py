"""The ledger explored: accounts with balances, transfers by what they concern, and every rule."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import Any

from django import forms
from django.contrib import messages
from django.db import connection, transaction
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_safe

from billing import invariants
from billing.invoicing.selectors import invoices_waiting
from billing.models import Account, AccountKind, MeterBatch, Transfer, TransferKind, WalletShard
from billing.totals import six_totals
from marketplace.console.access import needs, record
from marketplace.core.errors import NotFound
from marketplace.core.ids import parse_id, parse_number
from marketplace.core.keyset import links
from marketplace.core.outbox import Delivery
from marketplace.core.text import printable

PAGE = 50
_SUMS = """
SELECT a.id,
       COALESCE((SELECT sum(amount_nano) FROM billing_transfer WHERE debit_id = a.id), 0)::bigint,
       COALESCE((SELECT sum(amount_nano) FROM billing_transfer WHERE credit_id = a.id), 0)::bigint
FROM billing_account a WHERE a.id = ANY(%s)
"""


def balances(account_ids: list[int]) -> dict[int, tuple[int, int]]:
    """Replay accounts: return (debits, credits) of each from its transfers, in nano-USD."""
    with connection.cursor() as cursor:
        cursor.execute(_SUMS, [account_ids])
        return {row[0]: (row[1], row[2]) for row in cursor.fetchall()}


@require_safe
@needs("billing.view_transfer")
def balance(request: HttpRequest) -> JsonResponse:
    """Return the ledger's totals and whether every invariant holds."""
    totals = invariants.totals()
    broken = [finding.rule for finding in invariants.audit() if finding.rows]
    batches = MeterBatch.objects
    return JsonResponse(
        {
            "balanced": totals["debits"] == totals["credits"] and not broken,
            "debits_nano_usd": totals["debits"],
            "credits_nano_usd": totals["credits"],
            "accounts_nano_usd": {
                name.removeprefix("balance_"): value
                for name, value in totals.items()
                if name.startswith("balance_")
            },
            "broken_rules": broken,
            "meter_events_accepted": batches.filter(
                delivery=Delivery.DELIVERED, attempts__gt=0
            ).count(),
            "meter_events_waiting": batches.filter(delivery=Delivery.PENDING).count(),
        }
    )


@require_safe
@needs("billing.view_transfer")
def ledger(request: HttpRequest) -> HttpResponse:
    """Show what the whole ledger comes to, and the rules as they were last checked."""
    totals = invariants.totals()
    context = {
        "title": "Ledger",
        "debits": totals["debits"],
        "credits": totals["credits"],
        "accounts": sorted(
            (name.removeprefix("balance_"), value)
            for name, value in totals.items()
            if name.startswith("balance_")
        ),
        "last": invariants.audit_last(),
    }
    return render(request, "console/ledger.html", context)


@require_safe
@needs("billing.view_transfer")
def totals(request: HttpRequest) -> HttpResponse:
    """Show usage on credit from the ledger to the bank, with what explains each gap."""
    context = {
        "title": "From the ledger to the bank",
        "totals": six_totals(),
        "waiting": invoices_waiting()[:100],
    }
    return render(request, "console/totals.html", context)


@needs("billing.view_transfer")
def rules(request: HttpRequest) -> HttpResponse:
    """Show every rule as it was last checked, with the rows that break it; POST checks now."""
    if request.method == "POST":
        with transaction.atomic():
            record(request, "invariants.checked", "the whole ledger")
        found = invariants.audit()
        broken = [finding for finding in found if finding.rows]
        for finding in broken:
            invariants.incident_open(finding.rule, repr(finding.rows))
        invariants.audit_remember(found)
        if broken:
            messages.error(request, f"{len(broken)} rule(s) are broken: an incident is open.")
        else:
            messages.success(request, "Every rule holds.")
        return redirect("admin:invariants")
    context = {"title": "Invariants", "last": invariants.audit_last()}
    return render(request, "console/invariants.html", context)


@require_safe
@needs("billing.view_transfer")
def accounts(request: HttpRequest) -> HttpResponse:
    """List accounts with their balances, a page at a time."""
    rows = Account.objects.select_related("org").order_by("pk")
    kind, who = request.GET.get("kind", ""), printable(request.GET.get("org", "")).strip()
    if kind in AccountKind.values:
        rows = rows.filter(kind=kind)
    if who == "platform":
        rows = rows.filter(org=None)
    elif who:
        rows = rows.filter(org__slug=who)
    if (after := parse_number(request.GET.get("after", ""))) is not None:
        rows = rows.filter(pk__gt=after)
    found = list(rows[: PAGE + 1])
    shown = found[:PAGE]
    # One of the platform's own has millions of rows: its sum is replayed only when asked for.
    sums = balances([row.pk for row in shown if row.org_id is not None])
    context = {
        "title": "Accounts",
        "accounts": [(row, sums.get(row.pk)) for row in shown],
        "kinds": AccountKind.values,
        "kind": kind,
        "org_slug": who,
        **links(request, shown[-1].pk if len(found) > PAGE else "", name="after"),
    }
    return render(request, "console/accounts.html", context)


@require_safe
@needs("billing.view_transfer")
def account(request: HttpRequest, account_id: int) -> HttpResponse:
    """Replay one account's balance from its transfers, beside what the wallet keeps of it."""
    row = Account.objects.select_related("org").filter(pk=account_id).first()
    if row is None:
        raise NotFound("There is no such account.")
    debits, credits = balances([row.pk])[row.pk]
    kept: int | None = None
    if row.org_id and row.kind in (AccountKind.WALLET, AccountKind.RECEIVABLE):
        field = "prepaid_nano" if row.kind == AccountKind.WALLET else "owed_nano"
        shards = WalletShard.objects.filter(org_id=row.org_id).values_list(field, flat=True)
        kept = sum(shards)
    sign = -1 if row.kind == AccountKind.RECEIVABLE else 1
    context = {
        "title": str(row),
        "account": row,
        "debits": debits,
        "credits": credits,
        "balance": credits - debits,
        "kept": kept,
        "fits": kept is None or kept == sign * (credits - debits),
        "rows": _of_account(row.pk, Filters(), None),
    }
    return render(request, "console/account.html", context)


class TransferForm(forms.Form):
    """Which transfers: by account, source, kind and period."""

    account = forms.IntegerField(required=False, min_value=1, label="Account number")
    source = forms.UUIDField(required=False, label="Source (job, refund, invoice …)")
    kind = forms.ChoiceField(
        required=False, choices=[("", "Any"), *((kind, kind) for kind in TransferKind.values)]
    )
    since = forms.DateField(required=False, widget=forms.DateInput(attrs={"type": "date"}))
    until = forms.DateField(
        required=False, label="Before", widget=forms.DateInput(attrs={"type": "date"})
    )


@dataclass(frozen=True, slots=True)
class Filters:
    """A period and a kind, of which each may be open."""

    kind: str = ""
    since: date | None = None
    until: date | None = None

    def apply(self, rows: "QuerySet[Transfer]") -> "QuerySet[Transfer]":
        """Keep what fits."""
        if self.kind:
            rows = rows.filter(kind=self.kind)
        if self.since:
            rows = rows.filter(occurred_at__gte=datetime.combine(self.since, time.min, UTC))
        if self.until:
            rows = rows.filter(occurred_at__lt=datetime.combine(self.until, time.min, UTC))
        return rows


Mark = tuple[datetime, Any]


def _newest(rows: "QuerySet[Transfer]", mark: Mark | None) -> list[Transfer]:
    """Return a page and one more, newest first, older than `mark`."""
    if mark is not None:
        rows = rows.filter(Q(occurred_at__lt=mark[0]) | Q(occurred_at=mark[0], pk__lt=mark[1]))
    # The ids first, by the index alone: what is joined to them must not change how they are found.
    ids = list(rows.order_by("-occurred_at", "-pk").values_list("pk", flat=True)[: PAGE + 1])
    return _sorted(Transfer.objects.filter(pk__in=ids))


def _sorted(rows: "QuerySet[Transfer]") -> list[Transfer]:
    """Return a page of found transfers with their accounts, newest first."""
    found = rows.select_related("debit__org", "credit__org")
    return sorted(found, key=lambda row: (row.occurred_at, row.pk), reverse=True)[: PAGE + 1]


def _of_account(account_id: int, filters: Filters, mark: Mark | None) -> list[Transfer]:
    """Return what moved in or out of an account: each side by its own index, then merged."""
    rows = filters.apply(Transfer.objects.all())
    both = [
        *_newest(rows.filter(debit_id=account_id), mark),
        *_newest(rows.filter(credit_id=account_id), mark),
    ]
    return sorted(both, key=lambda row: (row.occurred_at, row.pk), reverse=True)[: PAGE + 1]


def _of_every_kind(filters: Filters, mark: Mark | None) -> list[Transfer]:
    """Return the newest of all: the newest of each kind by its index, then merged."""
    kinds = [filters.kind] if filters.kind else TransferKind.values
    rows = Filters("", filters.since, filters.until).apply(Transfer.objects.all())
    if mark is not None:
        rows = rows.filter(Q(occurred_at__lt=mark[0]) | Q(occurred_at=mark[0], pk__lt=mark[1]))
    parts = [
        rows.filter(kind=kind).order_by("-occurred_at", "-pk").values("pk")[: PAGE + 1]
        for kind in kinds
    ]
    ids = [row["pk"] for row in (parts[0].union(*parts[1:], all=True) if parts[1:] else parts[0])]
    return _sorted(Transfer.objects.filter(pk__in=ids))


def _mark(before: str) -> Mark | None:
    if not before:
        return None
    last = Transfer.objects.filter(pk=parse_id(before)).first()
    return (last.occurred_at, last.pk) if last else None


@require_safe
@needs("billing.view_transfer")
def transfers(request: HttpRequest) -> HttpResponse:
    """List transfers, newest first, a page at a time."""
    form = TransferForm(request.GET or None)
    given = form.cleaned_data if form.is_bound and form.is_valid() else {}
    filters = Filters(given.get("kind", ""), given.get("since"), given.get("until"))
    mark = _mark(request.GET.get("before", ""))
    if given.get("source"):
        found = _newest(filters.apply(Transfer.objects.filter(source_id=given["source"])), mark)
    elif given.get("account"):
        found = _of_account(given["account"], filters, mark)
    else:
        found = _of_every_kind(filters, mark)
    context = {
        "title": "Transfers",
        "form": form,
        "rows": found[:PAGE],
        **links(request, found[PAGE - 1].pk if len(found) > PAGE else ""),
    }
    return render(request, "console/transfers.html", context)
