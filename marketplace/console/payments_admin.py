"""What staff see of money that comes in, and the one thing they do: send unused money back."""

import uuid
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ActionForm
from django.db.models import QuerySet
from django.http import HttpRequest

from billing.models import BillingProfile, Dispute, StripeEvent, TopUp, TopUpReturn
from billing.returns import return_begin
from marketplace.console.rows import OutboxAdmin, ReadOnly
from marketplace.core.errors import MarketError
from marketplace.core.money import format_usd

_NANO_PER_CENT = 10_000_000


class ReturnForm(ActionForm):
    """How much goes back, and why."""

    return_usd = forms.DecimalField(
        required=False, min_value=0, max_value=1_000_000, decimal_places=2, label="Return, USD"
    )
    note = forms.CharField(required=False, max_length=200)
    # Made when the list is shown: a form that is sent twice returns once.
    nonce = forms.UUIDField(widget=forms.HiddenInput, initial=uuid.uuid4)


@admin.register(TopUp)
class TopUpAdmin(ReadOnly):
    """Payments in advance."""

    list_display = (
        "created_at", "org", "amount", "automatic", "state", "returned", "payment_intent_id",
    )  # fmt: skip
    list_filter = ("state", "automatic")
    list_select_related = ("org",)
    search_fields = ("=id", "=payment_intent_id", "=checkout_id", "org__slug")
    action_form = ReturnForm
    actions = ("send_back",)

    def amount(self, obj: TopUp) -> str:
        """Write the amount."""
        return format_usd(obj.cents * _NANO_PER_CENT)

    def returned(self, obj: TopUp) -> str:
        """Write what went back."""
        return format_usd(obj.returned_cents * _NANO_PER_CENT) if obj.returned_cents else ""

    @admin.action(permissions=["act"], description="Send unused money back (needs an amount)")
    def send_back(self, request: HttpRequest, queryset: "QuerySet[TopUp]") -> None:
        """Take money out of the wallet and have Stripe send it back to the card."""
        form = ReturnForm(request.POST)
        del form.fields["action"]  # its choices are the list's to check, and it has
        given: dict[str, Any] = form.cleaned_data if form.is_valid() else {}
        if queryset.count() != 1 or not given.get("return_usd"):
            self.message_user(
                request, "Select one top-up, and say how much goes back.", messages.ERROR
            )
            return
        row = queryset.get()
        try:
            made = return_begin(
                top_up_id=row.pk,
                cents=int(given["return_usd"] * 100),
                by=request.user,  # type: ignore[arg-type]  # staff are users
                key=f"{request.user.pk}:{given['nonce']}",
                note=given["note"],
            )
        except MarketError as error:
            self.message_user(request, error.message, messages.ERROR)
            return
        amount = format_usd(made.cents * _NANO_PER_CENT)
        self.message_user(
            request,
            f"{amount} left the wallet and goes back to the card. Automatic recharge is off.",
        )


@admin.register(TopUpReturn)
class TopUpReturnAdmin(OutboxAdmin):
    """Unused money on its way back."""

    list_display = ("created_at", "org", "cents", "state", "delivery", "attempts", "last_error")
    list_select_related = ("org",)
    search_fields = ("=id", "=stripe_refund_id", "org__slug")


@admin.register(Dispute)
class DisputeAdmin(ReadOnly):
    """Payments that banks took back."""

    list_display = ("id", "created_at", "org", "cents", "reason", "state", "taken", "owed")
    list_filter = ("state",)
    list_select_related = ("org",)
    search_fields = ("=id", "=payment_intent_id", "org__slug")

    def taken(self, obj: Dispute) -> str:
        """Write what came out of the wallet."""
        return format_usd(obj.wallet_nano)

    def owed(self, obj: Dispute) -> str:
        """Write what became a debt."""
        return format_usd(obj.owed_nano)


@admin.register(BillingProfile)
class BillingProfileAdmin(ReadOnly):
    """How organisations are billed."""

    list_display = ("org", "legal_name", "country", "tax_id_type", "recharge_cents")
    list_select_related = ("org",)
    search_fields = ("org__slug", "legal_name", "email")


@admin.register(StripeEvent)
class StripeEventAdmin(OutboxAdmin):
    """What Stripe told us."""

    list_display = ("id", "type", "object_id", "delivery", "attempts", "created_at", "last_error")
    search_fields = ("=id", "=object_id", "=account_id")
    show_full_result_count = False
