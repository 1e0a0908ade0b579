"""The whole story of one source: quote, hold, charge, split, refunds, invoice and payout."""

import uuid
from dataclasses import dataclass
from typing import Any

from django import forms
from django.contrib import messages
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST, require_safe

from billing.models import (
    Charge,
    CreditNote,
    Dispute,
    Draw,
    Grant,
    Hold,
    Invoice,
    Payout,
    Refund,
    RefundReason,
    Statement,
    StatementEntry,
    TopUp,
    TopUpReturn,
    Transfer,
)
from billing.refunds import charge_refund, refundable
from marketplace.accounts.models import Organisation
from marketplace.catalog import selectors as catalog
from marketplace.console.access import acting_staff, needs, record
from marketplace.core.errors import InvalidInput, MarketError, NotFound
from marketplace.core.ids import new_id
from marketplace.core.money import format_usd, to_nano
from marketplace.jobs import quoting
from marketplace.jobs.models import Job, WebhookDelivery


class RefundForm(forms.Form):
    """Why money is given back, and how much."""

    reason = forms.ChoiceField(choices=RefundReason, label="Because")
    amount_usd = forms.DecimalField(
        required=False, min_value=0, decimal_places=9, max_digits=20, label="Amount, USD",
        help_text="Empty: all that is left.",
    )  # fmt: skip
    note = forms.CharField(required=False, max_length=500, help_text="The developer reads it.")
    # Made when the form is shown: a form that is sent twice refunds once.
    nonce = forms.UUIDField(widget=forms.HiddenInput, initial=new_id)


@dataclass(frozen=True, slots=True)
class Rerated:
    """What the pinned price makes of what was measured, beside what was charged."""

    amount_nano: int
    lines: list[dict[str, str]]
    is_same: bool


def rerate(job: Job, charge: Charge) -> Rerated:
    """Rate a finished job anew from its stored usage, price and free units. Changes nothing."""
    if not job.usage:
        return Rerated(0, [], charge.amount_nano == 0)
    terms = catalog.terms(job.price)
    again = quoting.charge(terms, job.usage, job.quote_nano, job.free_quantity)
    same = again.amount_nano == charge.amount_nano and again.lines_json() == charge.lines
    return Rerated(again.amount_nano, again.lines_json(), same)


def _what(source_id: uuid.UUID) -> tuple[str, Any]:
    """Return what an id is that is no charge: its kind in words and its row."""
    tables: list[tuple[str, Any, str]] = [
        ("Top-up", TopUp, "pk"),
        ("Invoice", Invoice, "pk"),
        ("Credit note", CreditNote, "pk"),
        ("Statement", Statement, "pk"),
        ("Grant", Grant, "pk"),
        ("Money sent back", TopUpReturn, "pk"),
        ("Dispute", Dispute, "source_id"),
        ("Hold", Hold, "pk"),
    ]
    for kind, table, field in tables:
        row = table._default_manager.select_related("org").filter(**{field: source_id}).first()
        if row is not None:
            return kind, row
    return "", None


def _shares(charge: Charge) -> list[dict[str, Any]]:
    """Return who was owed what of a charge, by name."""
    names = {
        str(org.pk): org
        for org in Organisation.objects.filter(pk__in=[s["org_id"] for s in charge.shares])
    }
    return [{**share, "org": names.get(share["org_id"])} for share in charge.shares]


def _paid_out(ids: list[Any]) -> list[dict[str, Any]]:
    """Return the statements that transfers went into, with their payouts."""
    entries = StatementEntry.objects.filter(transfer_id__in=ids).select_related("statement__org")
    statements = {entry.statement_id: entry.statement for entry in entries}
    payouts = {row.pk: row for row in Payout.objects.filter(pk__in=statements)}
    return [
        {"statement": statement, "payout": payouts.get(pk)} for pk, statement in statements.items()
    ]


def _context(request: HttpRequest, source_id: uuid.UUID) -> dict[str, Any]:
    """Return what the page shows. Raises NotFound if nothing has this id."""
    jobs = Job.objects.select_related("org", "version__model__org", "price", "api_key", "user")
    job = jobs.filter(pk=source_id).first()
    charges = Charge.objects.select_related(
        "org", "vendor", "invoice", "prepaid_batch", "postpaid_batch"
    )
    charge = charges.filter(pk=source_id).first()
    refunds = list(charge.refunds.select_related("by", "credit_note")) if charge else []
    sources = [source_id, *(refund.pk for refund in refunds)]
    rows = Transfer.objects.filter(source_id__in=sources)
    transfers = list(rows.select_related("debit__org", "credit__org").order_by("occurred_at", "pk"))
    kind, row = ("", None) if charge or job else _what(source_id)
    if not (job or charge or transfers or row):
        raise NotFound("Nothing has this id.")
    hold = Hold.objects.filter(pk=source_id).first()
    wants_replay = "replay" in request.GET and job is not None and charge is not None
    return {
        "title": f"{kind or 'Job'} {source_id}",
        "source_id": source_id,
        "kind": kind or "Job",
        "row": row,
        "job": job,
        "charge": charge,
        "hold": hold,
        "draws": Draw.objects.filter(source=hold).select_related("grant") if hold else [],
        "shares": _shares(charge) if charge else [],
        "refunds": refunds,
        "left": refundable(charge) if charge else 0,
        "transfers": transfers,
        "paid_out": _paid_out([row.pk for row in transfers]),
        "deliveries": WebhookDelivery.objects.filter(job=job) if job else [],
        "rerated": rerate(job, charge) if wants_replay and job and charge else None,
        "may_refund": charge is not None and request.user.has_perm("billing.change_charge"),
    }


@require_safe
@needs("billing.view_transfer")
def story(request: HttpRequest, source_id: uuid.UUID) -> HttpResponse:
    """Tell the story; with `?replay` rate it again. A refund's story is its charge's."""
    refund = Refund.objects.filter(pk=source_id).first()
    if refund is not None:
        return redirect("admin:story", refund.charge_id)
    context = _context(request, source_id) | {"form": RefundForm()}
    return render(request, "console/story.html", context)


@require_POST
@needs("billing.change_charge")
def refund(request: HttpRequest, source_id: uuid.UUID) -> HttpResponse:
    """Give money of the charge back; sent twice, it refunds once."""
    form, status = RefundForm(request.POST), 422
    if form.is_valid():
        given = form.cleaned_data
        try:
            with transaction.atomic():
                done = _give_back(request, source_id, given)
        except MarketError as error:
            status = error.status
            for name, problems in (error.fields or {"": [error.message]}).items():
                form.add_error("amount_usd" if name == "amount" else None, problems)
        else:
            messages.success(request, f"{format_usd(done.amount_nano)} was given back.")
            return redirect("admin:story", source_id)
    context = _context(request, source_id) | {"form": form}
    return render(request, "console/story.html", context, status=status)


def _give_back(request: HttpRequest, source_id: uuid.UUID, given: dict[str, Any]) -> Refund:
    """Refund, and write down who did it, once."""
    if given["amount_usd"] == 0:
        raise InvalidInput("Give back more than nothing.", fields={"amount": ["More than 0."]})
    user = acting_staff(request)
    before = Refund.objects.filter(charge_id=source_id).count()
    done = charge_refund(
        source_id=source_id,
        key=f"staff:{given['nonce']}",
        reason=RefundReason(given["reason"]),
        amount_nano=to_nano(given["amount_usd"]) if given["amount_usd"] else None,
        note=given["note"],
        by=user,
    )
    if Refund.objects.filter(charge_id=source_id).count() > before:
        note = f"{format_usd(done.amount_nano)}, {done.get_reason_display()}. {done.note}".strip()
        record(request, "charge.refunded", done.charge, org=done.org, note=note, by=user)
    return done
