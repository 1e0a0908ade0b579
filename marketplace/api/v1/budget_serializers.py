"""The shapes of projects, budgets and grants in API v1."""

from rest_framework import serializers

from marketplace.api.strict import Strict
from marketplace.api.v1.serializers import Balance


class ProjectCreate(Strict):
    """A new project."""

    name = serializers.CharField(max_length=80)
    monthly_budget_nano_usd = serializers.IntegerField(
        required=False, allow_null=True, min_value=0, max_value=2**63 - 1
    )


class ProjectPatch(Strict):
    """What is to be changed of a project; what is left out stays."""

    name = serializers.CharField(required=False, max_length=80)
    monthly_budget_nano_usd = serializers.IntegerField(
        required=False, allow_null=True, min_value=0, max_value=2**63 - 1
    )
    archived = serializers.BooleanField(
        required=False, help_text="true: put it away for good and revoke its keys."
    )


class Project(serializers.Serializer):  # type: ignore[type-arg]
    """A part of an organisation's work with a budget of its own."""

    id = serializers.UUIDField()
    name = serializers.CharField()
    monthly_budget_nano_usd = serializers.IntegerField(allow_null=True)
    spent_nano_usd = serializers.IntegerField(
        help_text="Counted in the budget in this UTC month, since there is one."
    )
    held_nano_usd = serializers.IntegerField(help_text="Reserved for jobs that have not ended.")
    created_at = serializers.DateTimeField()
    archived_at = serializers.DateTimeField(allow_null=True)


class Grant(serializers.Serializer):  # type: ignore[type-arg]
    """Credit that was given: used before money, by priority, then by expiry."""

    id = serializers.UUIDField()
    amount_nano_usd = serializers.IntegerField()
    remaining_nano_usd = serializers.IntegerField(help_text="Held parts included.")
    held_nano_usd = serializers.IntegerField()
    priority = serializers.IntegerField(help_text="0 is used first, 100 last.")
    expires_at = serializers.DateTimeField(allow_null=True)
    model = serializers.CharField(allow_null=True, help_text="The only model that it pays for.")
    vendor = serializers.CharField(
        allow_null=True, help_text="The only vendor whose models it pays for."
    )
    note = serializers.CharField()
    created_at = serializers.DateTimeField()


class BalanceWithGrants(serializers.Serializer):  # type: ignore[type-arg]
    """What the organisation can spend, and the grants in it."""

    balance = Balance()
    grants = Grant(many=True)
