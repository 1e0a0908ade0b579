"""The form by which staff give credit, set a credit limit and spread a wallet over shards."""

import uuid
from datetime import UTC, datetime, time
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import HttpRequest

from billing.selectors import shard_count_of
from billing.services import credit_grant
from billing.wallets import credit_limit_set, shard_count_set
from marketplace.accounts.models import Organisation
from marketplace.accounts.selectors import organisation_get
from marketplace.catalog.models import Model
from marketplace.console.access import may, record
from marketplace.core.clock import now
from marketplace.core.errors import NotFound
from marketplace.core.money import format_usd

MAY_GRANT, MAY_CHANGE_WALLET = "billing.add_grant", "billing.change_wallet"
_NEEDED = {
    "grant_usd": MAY_GRANT, "grant_priority": MAY_GRANT, "grant_until": MAY_GRANT,
    "grant_scope": MAY_GRANT, "grant_note": MAY_GRANT,
    "credit_limit_usd": MAY_CHANGE_WALLET, "shards": MAY_CHANGE_WALLET,
}  # fmt: skip


def not_for(user: Any) -> list[str]:
    """Return the fields of the form that somebody may not use: pages leave them out."""
    return [name for name, permission in _NEEDED.items() if not user.has_perm(permission)]


class CreditForm(forms.ModelForm):  # type: ignore[type-arg]
    """An organisation with acts of money, each its own ledger entry."""

    grant_usd = forms.DecimalField(
        required=False, min_value=0, max_value=100_000, decimal_places=9, label="Grant credit, USD",
        help_text="Booked at once as promotion, with you as its source.",
    )  # fmt: skip
    grant_priority = forms.IntegerField(
        required=False, min_value=0, max_value=100, initial=50, label="Priority of the grant",
        help_text="0 is used first, 100 last. Among equals, what expires first.",
    )  # fmt: skip
    grant_until = forms.DateField(
        required=False, label="Grant lasts until the end of",
        widget=forms.DateInput(attrs={"type": "date"}),
        help_text="Of this day in UTC. Empty: for good.",
    )  # fmt: skip
    grant_scope = forms.CharField(
        required=False, max_length=81, label="Grant is only for",
        help_text="vendor/name of a model, or a vendor. Empty: everything.",
    )  # fmt: skip
    grant_note = forms.CharField(
        required=False,
        max_length=200,
        label="Note on the grant",
        help_text="The organisation reads it.",
    )
    credit_limit_usd = forms.DecimalField(
        required=False, min_value=0, max_value=1_000_000, decimal_places=9,
        label="Set credit limit, USD", help_text="How much may be owed until it is invoiced.",
    )  # fmt: skip
    shards = forms.IntegerField(
        required=False, min_value=1, max_value=64, label="Spread the wallet over",
        help_text="shards, so that as many calls can settle at once. 1 for most; 8 to 16 for "
        "customers with hundreds of calls a second. Budgets are one row each and undo it.",
    )  # fmt: skip

    # Made when the form is shown: a form that is sent twice grants once.
    nonce = forms.UUIDField(widget=forms.HiddenInput, initial=uuid.uuid4)

    class Meta:
        """Only descriptive fields are edited."""

        model = Organisation
        fields = ("name", "about", "website", "country")

    def clean_grant_until(self) -> datetime | None:
        """Return the last moment of the day."""
        day = self.cleaned_data["grant_until"]
        if day is None:
            return None
        until = datetime.combine(day, time.max, UTC)
        if until <= now():
            raise ValidationError("It is in the past.")
        return until

    def clean_grant_scope(self) -> dict[str, uuid.UUID]:
        """Return what `credit_grant` takes for the scope."""
        vendor, _, name = self.cleaned_data["grant_scope"].strip().partition("/")
        if not vendor:
            return {}
        if name:
            model = Model.objects.filter(org__slug=vendor, name=name).first()
            if model is None:
                raise ValidationError("There is no such model.")
            return {"model_id": model.pk}
        try:
            return {"vendor_id": organisation_get(vendor).pk}
        except NotFound as error:
            raise ValidationError("There is no such vendor.") from error

    @transaction.atomic
    def book(self, request: HttpRequest, org: Organisation) -> list[str]:
        """Do what was asked for, and write it down. Returns what there is to tell.

        Raises PermissionDenied unless one may give credit, or change wallets, as the form asks.
        """
        told = self._grant(request, org) + self._change_wallet(request, org)
        if told:
            note = f"{' '.join(told)} {self.cleaned_data['grant_note']}".strip()
            record(request, "organisation.credit", org, org=org, note=note)
        return told

    def _grant(self, request: HttpRequest, org: Organisation) -> list[str]:
        data: dict[str, Any] = self.cleaned_data
        told = []
        if grant := data.get("grant_usd"):
            may(request, MAY_GRANT)
            priority = data.get("grant_priority")
            is_new = credit_grant(
                org_id=org.pk,
                amount_nano=int(grant * 10**9),
                source=f"staff:{request.user.pk}:{org.pk}:{data['nonce']}",
                expires_at=data["grant_until"],
                priority=50 if priority is None else priority,
                note=data["grant_note"],
                **data["grant_scope"],
            )
            told.append(
                f"Granted {format_usd(int(grant * 10**9))}."
                if is_new
                else "This form had granted credit already; nothing more."
            )
        return told

    def _change_wallet(self, request: HttpRequest, org: Organisation) -> list[str]:
        data: dict[str, Any] = self.cleaned_data
        told = []
        if (limit := data.get("credit_limit_usd")) is not None:
            may(request, MAY_CHANGE_WALLET)
            credit_limit_set(org_id=org.pk, limit_nano=int(limit * 10**9))
            told.append(f"The credit limit is ${limit:f} now.")
        shards = data.get("shards")
        if shards and shards != shard_count_of(org.pk):
            may(request, MAY_CHANGE_WALLET)
            shard_count_set(org_id=org.pk, count=shards)
            told.append(f"The wallet is spread over {shards} shards.")
        return told
