"""What staff see of vendors' money, and the two things they do: release a payout, reverse one."""

import uuid
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ActionForm
from django.db.models import Q, QuerySet, Sum
from django.db.models.functions import Coalesce
from django.http import HttpRequest

from billing.models import NO_VERSION, Payout, PayoutAccount, Statement, StatementLine
from billing.payouts import payout_approve, payout_reverse
from billing.statements.draft import CENT_NANO
from marketplace.console.rows import ReadOnly
from marketplace.core.errors import MarketError
from marketplace.core.money import format_usd


class LineInline(admin.TabularInline):  # type: ignore[type-arg]
    """The lines of a statement."""

    model = StatementLine
    extra = 0
    can_delete = False
    fields = (
        "model_ref", "royalty", "country", "month", "calls", "earned_nano", "clawed_back_nano",
    )  # fmt: skip
    readonly_fields = fields

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Closing a month writes them."""
        return False


@admin.register(Statement)
class StatementAdmin(ReadOnly):
    """Vendors' months."""

    list_display = ("number", "org", "month", "status", "earned", "paid", "carried", "reason")
    list_filter = ("status", "month")
    list_select_related = ("org",)
    search_fields = ("=id", "number", "org__slug")
    inlines = (LineInline,)

    def get_queryset(self, request: HttpRequest) -> "QuerySet[Statement]":
        """Add up what of each was taken back, for all rows at once."""
        back = Sum("lines__earned_nano", filter=Q(lines__version_id=NO_VERSION))
        rows: QuerySet[Statement] = super().get_queryset(request)
        return rows.annotate(returned=Coalesce(back, 0))

    def earned(self, obj: Statement) -> str:
        """Write what was earned."""
        return format_usd(obj.shares_nano)

    def paid(self, obj: Statement) -> str:
        """Write what is paid out."""
        return format_usd(obj.payout_cents * CENT_NANO)

    def carried(self, obj: Statement) -> str:
        """Write what is carried on."""
        return format_usd(obj.carried_out_nano)


class ReverseForm(ActionForm):
    """How much is taken back from the vendor's account."""

    reverse_usd = forms.DecimalField(
        required=False, min_value=0, max_value=10_000_000, decimal_places=2, label="Reverse, USD"
    )
    # Made when the list is shown: a form that is sent twice takes back once.
    nonce = forms.UUIDField(widget=forms.HiddenInput, initial=uuid.uuid4)


@admin.register(Payout)
class PayoutAdmin(ReadOnly):
    """What goes to vendors."""

    list_display = (
        "statement", "org", "amount", "state", "needs_approval", "delivery", "attempts",
        "last_error", "returned",
    )  # fmt: skip
    list_filter = ("state", "needs_approval", "delivery")
    list_select_related = ("org", "statement")
    search_fields = ("=statement__id", "statement__number", "=stripe_transfer_id", "org__slug")
    action_form = ReverseForm
    actions = ("approve", "reverse")

    def amount(self, obj: Payout) -> str:
        """Write the amount."""
        return format_usd(obj.cents * CENT_NANO)

    def returned(self, obj: Payout) -> str:
        """Write what was taken back."""
        return format_usd(obj.reversed_cents * CENT_NANO) if obj.reversed_cents else ""

    @admin.action(permissions=["act"], description="Approve: let it be sent")
    def approve(self, request: HttpRequest, queryset: "QuerySet[Payout]") -> None:
        """Release payouts above the limit."""
        for row in queryset.select_related("statement"):
            try:
                payout_approve(statement_id=row.pk, by=request.user)  # type: ignore[arg-type]  # staff are users
                self.message_user(request, f"{row.statement} will be sent.")
            except MarketError as error:
                self.message_user(request, f"{row.statement}: {error.message}", messages.ERROR)

    @admin.action(permissions=["act"], description="Take back from the vendor (needs an amount)")
    def reverse(self, request: HttpRequest, queryset: "QuerySet[Payout]") -> None:
        """Reverse a transfer in part or whole: for debts that coming earnings will not cover."""
        form = ReverseForm(request.POST)
        del form.fields["action"]  # its choices are the list's to check, and it has
        given: dict[str, Any] = form.cleaned_data if form.is_valid() else {}
        if queryset.count() != 1 or not given.get("reverse_usd"):
            self.message_user(request, "Select one payout, and say how much.", messages.ERROR)
            return
        row = queryset.select_related("statement").get()
        try:
            new = payout_reverse(
                statement_id=row.pk,
                cents=int(given["reverse_usd"] * 100),
                key=f"{request.user.pk}:{given['nonce']}",
            )
        except MarketError as error:
            self.message_user(request, error.message, messages.ERROR)
            return
        amount = format_usd(int(given["reverse_usd"] * 100) * CENT_NANO)
        self.message_user(
            request, f"{amount} came back." if new else "This form had done so already."
        )


@admin.register(PayoutAccount)
class PayoutAccountAdmin(ReadOnly):
    """Where vendors are paid."""

    list_display = ("org", "stripe_account_id", "country", "enabled", "problem", "seen_at")
    list_filter = ("enabled",)
    list_select_related = ("org",)
    search_fields = ("org__slug", "=stripe_account_id")
