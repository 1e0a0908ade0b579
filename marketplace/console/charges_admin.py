"""What staff see of charges, and how they give money back."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ActionForm
from django.core.exceptions import ValidationError
from django.db.models import OuterRef, QuerySet, Subquery, Sum
from django.db.models.functions import Coalesce
from django.http import HttpRequest

from billing.models import Charge, CreditNote, Refund, RefundReason
from billing.refunds import charge_refund
from marketplace.console.rows import ReadOnly
from marketplace.core.errors import MarketError
from marketplace.core.ids import new_id
from marketplace.core.money import format_usd, to_nano


class RefundForm(ActionForm):
    """Why money is given back, and how much of each charge."""

    reason = forms.ChoiceField(choices=RefundReason, required=False, label="Refund because")
    # Text, because the console says no more than "No action selected" of a form it finds wrong.
    amount_usd = forms.CharField(
        required=False, max_length=30, label="Amount in USD (empty: all that is left)"
    )
    note = forms.CharField(required=False, max_length=500, label="Note")
    nonce = forms.UUIDField(required=False, initial=new_id, widget=forms.HiddenInput)


@admin.register(Charge)
class ChargeAdmin(ReadOnly):
    """Charges with their explanation."""

    list_display = ("occurred_at", "org", "vendor", "model_ref", "amount", "left", "source_id")
    list_select_related = ("org", "vendor")
    search_fields = ("=source_id", "org__slug", "vendor__slug")
    show_full_result_count = False
    action_form = RefundForm
    actions = ("refund",)

    def amount(self, obj: Charge) -> str:
        """Write the amount."""
        return format_usd(obj.amount_nano)

    def get_queryset(self, request: HttpRequest) -> "QuerySet[Charge]":
        """Add what was given back, in one query for the page."""
        refunds = Refund.objects.filter(charge=OuterRef("pk")).order_by().values("charge")
        back = Subquery(refunds.annotate(sum=Sum("amount_nano")).values("sum"))
        charges: QuerySet[Charge] = super().get_queryset(request)
        return charges.annotate(back=Coalesce(back, 0))

    def left(self, obj: Any) -> str:
        """Write how much can still be given back."""
        return format_usd(obj.amount_nano - obj.back)

    @admin.action(permissions=["act"], description="Refund")
    def refund(self, request: HttpRequest, queryset: "QuerySet[Charge]") -> None:
        """Give money of each chosen charge back; sent twice, it refunds once."""
        reason = request.POST.get("reason") or RefundReason.STAFF
        note = request.POST.get("note", "")
        try:
            nonce = forms.UUIDField().clean(request.POST.get("nonce"))
        except ValidationError:
            self.message_user(request, "Nothing was done: load this page anew.", messages.ERROR)
            return
        try:
            written = forms.DecimalField(required=False, min_value=0).clean(
                request.POST.get("amount_usd", "")
            )
        except ValidationError as error:
            self.message_user(request, f"Amount: {' '.join(error.messages)}", messages.ERROR)
            return
        for charge in queryset:
            try:
                done = charge_refund(
                    source_id=charge.pk,
                    key=f"staff:{nonce}",
                    reason=RefundReason(reason),
                    amount_nano=to_nano(written) if written else None,
                    note=note,
                    by=request.user,  # type: ignore[arg-type]
                )
            except (MarketError, ValueError) as error:
                self.message_user(request, f"{charge.pk}: {error}", messages.ERROR)
            else:
                self.message_user(
                    request, f"{format_usd(done.amount_nano)} of {charge.pk} was given back."
                )


@admin.register(Refund)
class RefundAdmin(ReadOnly):
    """Money given back."""

    list_display = ("occurred_at", "org", "amount", "reason", "note", "by", "charge_id")
    list_filter = ("reason",)
    list_select_related = ("org", "by")
    search_fields = ("=charge__source_id", "org__slug")

    def amount(self, obj: Refund) -> str:
        """Write the amount."""
        return format_usd(obj.amount_nano)


@admin.register(CreditNote)
class CreditNoteAdmin(ReadOnly):
    """What lowered issued invoices."""

    list_display = ("number", "org", "cents", "to_balance", "stripe_credit_note_id", "created_at")
    list_select_related = ("org",)
    search_fields = ("=number", "org__slug")
