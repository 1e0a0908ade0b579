"""Forms about money that comes in. They parse; what is allowed is decided by the services."""

import uuid
from decimal import Decimal
from typing import Any

from django import forms

from billing.profiles import TAX_ID_TYPES

PRESETS = (10, 25, 50, 100)
"""Amounts in whole dollars that have a button."""


class TopUpForm(forms.Form):
    """An amount to pay in advance, from a button or written."""

    amount = forms.DecimalField(
        min_value=0, max_value=10_000_000, decimal_places=2, label="Amount in USD"
    )
    save_card = forms.BooleanField(
        required=False,
        label="Keep the card for automatic recharge",
        help_text="Nothing is charged later unless you set up automatic recharge.",
    )
    # Made when the form is shown: a form that is sent twice opens one payment.
    key = forms.UUIDField(widget=forms.HiddenInput, initial=uuid.uuid4)

    def cents(self) -> int:
        """Return the amount in cents."""
        usd: Decimal = self.cleaned_data["amount"]
        return int(usd * 100)

    def key_of_all(self) -> str:
        """Return a key that differs as soon as something else is asked for."""
        data = self.cleaned_data
        return f"{data['key']}:{self.cents()}:{int(data['save_card'])}"

    def initial_key(self) -> str:
        """Return a key for a form without fields of its own."""
        return str(uuid.uuid4())


class RechargeForm(forms.Form):
    """When and by how much the saved card is charged."""

    enabled = forms.BooleanField(required=False, label="Recharge automatically")
    below = forms.DecimalField(
        required=False, min_value=0, max_value=1_000_000, decimal_places=2,
        label="When less than this is available, USD",
    )  # fmt: skip
    amount = forms.DecimalField(
        required=False, min_value=0, max_value=1_000_000, decimal_places=2, label="Charge, USD"
    )
    monthly = forms.DecimalField(
        required=False, min_value=0, max_value=10_000_000, decimal_places=2,
        label="At most in a month, USD", help_text="Counted in UTC. Empty: no limit.",
    )  # fmt: skip

    def clean(self) -> dict[str, Any]:
        """Require both amounts when it is on."""
        data = super().clean() or {}
        for name in ("below", "amount"):
            if data.get("enabled") and data.get(name) is None and name not in self.errors:
                self.add_error(name, "Say how much.")
        return data

    def arguments(self) -> dict[str, Any]:
        """Return what `recharge_set` takes."""
        data = self.cleaned_data
        return {
            "below_nano": int(data["below"] * 10**9) if data["enabled"] else None,
            "cents": int((data["amount"] or 0) * 100),
            "monthly_cents": int((data["monthly"] or 0) * 100),
        }


class ProfileForm(forms.Form):
    """What invoices say of the customer."""

    legal_name = forms.CharField(max_length=200, required=False)
    email = forms.EmailField(
        required=False, label="E-mail for bills", help_text="Empty: the owner's address."
    )
    address = forms.CharField(
        max_length=500, required=False, widget=forms.Textarea(attrs={"rows": 2}),
        label="Street and number",
    )  # fmt: skip
    postal_code = forms.CharField(max_length=20, required=False)
    city = forms.CharField(max_length=100, required=False)
    state = forms.CharField(max_length=60, required=False, label="State or province")
    country = forms.CharField(
        max_length=2, required=False, help_text="Two letters (ISO 3166), such as FR."
    )
    tax_id_type = forms.ChoiceField(
        choices=[("", "None"), *TAX_ID_TYPES.items()], required=False, label="Tax id"
    )
    tax_id = forms.CharField(max_length=40, required=False, label="Its number")
