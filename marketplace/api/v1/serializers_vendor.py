"""The shapes of API v1 for vendors' statements. Amounts end in their unit."""

from rest_framework import serializers

from billing.models import PayoutState, StatementStatus


class Payout(serializers.Serializer):  # type: ignore[type-arg]
    """The transfer that pays a statement."""

    cents = serializers.IntegerField()
    state = serializers.ChoiceField(choices=PayoutState.choices)
    sent_at = serializers.DateTimeField(allow_null=True)
    stripe_transfer_id = serializers.CharField(allow_null=True)
    taken_back_cents = serializers.IntegerField()


class StatementLine(serializers.Serializer):  # type: ignore[type-arg]
    """Earnings by one version under one licence from payers of one country."""

    model = serializers.CharField(help_text="The model that was called; empty: payouts taken back.")
    version_id = serializers.UUIDField()
    licence_id = serializers.UUIDField(allow_null=True)
    royalty = serializers.BooleanField(help_text="Another vendor's model, made from yours.")
    payer_country = serializers.CharField(help_text="ISO 3166; empty if unknown.")
    usage_month = serializers.DateField()
    calls = serializers.IntegerField()
    earned_nano_usd = serializers.IntegerField()
    payouts_returned_nano_usd = serializers.IntegerField(
        help_text="Earlier payouts that were taken back, and are owed again."
    )
    clawed_back_nano_usd = serializers.IntegerField()


class Sums(serializers.Serializer):  # type: ignore[type-arg]
    """carried_out = carried_in + earned + payouts_returned − clawed_back − payout."""

    month = serializers.DateField()
    carried_in_nano_usd = serializers.IntegerField()
    earned_nano_usd = serializers.IntegerField()
    payouts_returned_nano_usd = serializers.IntegerField(
        help_text="Earlier payouts that were taken back, and are owed again."
    )
    clawed_back_nano_usd = serializers.IntegerField()
    pending_nano_usd = serializers.IntegerField()
    payout_cents = serializers.IntegerField()
    carried_out_nano_usd = serializers.IntegerField()
    reason = serializers.CharField(help_text="Why nothing is paid out.")


class Statement(Sums):
    """A closed month of a vendor."""

    id = serializers.UUIDField()
    number = serializers.CharField()
    status = serializers.ChoiceField(choices=StatementStatus.choices)
    closed_at = serializers.DateTimeField()
    payout = Payout(allow_null=True)


class StatementWithLines(Statement):
    """A closed month with its lines."""

    lines = StatementLine(many=True)


class Pending(serializers.Serializer):  # type: ignore[type-arg]
    """What cannot be paid out yet, and why."""

    amount_nano_usd = serializers.IntegerField()
    calls = serializers.IntegerField()
    reason = serializers.CharField()


class StatementPreview(Sums):
    """The running month as it would be closed now."""

    lines = StatementLine(many=True)
    pending = Pending(many=True)
