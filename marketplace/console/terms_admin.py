"""What staff see and may do about terms: promotion codes, acceptances, free units."""

from typing import Any, ClassVar

from django import forms
from django.contrib import admin
from django.db.models import DateTimeField
from django.http import HttpRequest

from marketplace.catalog.models import FreeQuotaUse, LicenceAcceptance
from marketplace.catalog.promotion_models import Promotion
from marketplace.console.rows import Audited, ReadOnly
from marketplace.core.money import format_usd


class PromotionForm(forms.ModelForm):  # type: ignore[type-arg]
    """A new code, its amount in USD."""

    amount_usd = forms.DecimalField(
        min_value=0, max_value=10_000, decimal_places=9, label="Credit, USD"
    )

    class Meta:
        """How much and to whom, not how often it was used."""

        model = Promotion
        fields = ("code", "starts_at", "ends_at", "max_uses", "credit_days", "model", "note")

    def clean_code(self) -> str:
        """Codes are written in capitals."""
        return str(self.cleaned_data["code"]).strip().upper()

    def clean_amount_usd(self) -> int:
        """Read the amount as nano-USD."""
        nano = int(self.cleaned_data["amount_usd"] * 10**9)
        if nano <= 0:
            raise forms.ValidationError("A code must be worth something.")
        return nano


@admin.register(Promotion)
class PromotionAdmin(Audited):
    """Promotion codes. What a code is worth never changes; it can be ended."""

    list_display = ("code", "credit", "starts_at", "ends_at", "uses", "max_uses", "note")
    search_fields = ("code", "note")
    raw_id_fields = ("model",)
    form = PromotionForm
    # Django's own has two fields for a moment, and no label for either.
    formfield_overrides: ClassVar[Any] = {
        DateTimeField: {
            "form_class": forms.DateTimeField,
            "widget": forms.DateTimeInput(
                attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M"
            ),
        }
    }

    def get_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        """Ask for the amount of a new code, show that of an old one."""
        worth = ("credit_days", "model")
        rest = ("starts_at", "ends_at", "max_uses", "note")
        first = ("code", "credit", "uses") if obj else ("code", "amount_usd")
        return (*first, *worth, *rest)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        """Fix what was redeemed: code and worth."""
        return ("code", "credit", "uses", "credit_days", "model") if obj else ()

    def get_form(
        self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any
    ) -> Any:
        """Change a code without its amount."""
        if obj is not None:
            kwargs["form"] = forms.ModelForm
        return super().get_form(request, obj, change, **kwargs)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """End it instead: grants refer to it."""
        return False

    def credit(self, obj: Promotion) -> str:
        """Write what it is worth."""
        return format_usd(obj.amount_nano)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Save with the amount, and who made it."""
        if not change:
            obj.amount_nano = form.cleaned_data["amount_usd"]
            obj.created_by = request.user
        super().save_model(request, obj, form, change)


@admin.register(LicenceAcceptance)
class LicenceAcceptanceAdmin(ReadOnly):
    """Who accepted which text, and for what."""

    list_display = ("accepted_at", "org", "licence", "declared_use", "user", "text_digest")
    list_select_related = ("org", "licence", "user")
    list_filter = ("declared_use",)
    search_fields = ("org__slug", "licence__slug")


@admin.register(FreeQuotaUse)
class FreeQuotaUseAdmin(ReadOnly):
    """Free units by organisation and month."""

    list_display = ("month", "org", "version", "unit", "used", "held")
    list_select_related = ("org", "version__model__org")
    search_fields = ("org__slug",)
