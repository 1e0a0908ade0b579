"""The shapes of API v1 about money that comes in."""

from rest_framework import serializers

from billing.models import TopUpState
from billing.profiles import TAX_ID_TYPES
from marketplace.api.strict import Strict


class TopUpCreate(Strict):
    """A payment in advance."""

    amount_cents = serializers.IntegerField(
        min_value=1, max_value=2**31 - 1, help_text="US cents of credit; tax may come on top."
    )
    save_card = serializers.BooleanField(
        default=False, help_text="Keep the card for automatic recharge."
    )


class TopUp(serializers.Serializer):  # type: ignore[type-arg]
    """A payment in advance, by a person or by automatic recharge."""

    id = serializers.UUIDField()
    state = serializers.ChoiceField(TopUpState.choices)
    amount_cents = serializers.IntegerField()
    tax_cents = serializers.IntegerField()
    returned_cents = serializers.IntegerField()
    automatic = serializers.BooleanField()
    failure = serializers.CharField(allow_blank=True)
    receipt_url = serializers.CharField()
    created_at = serializers.DateTimeField()
    ended_at = serializers.DateTimeField(allow_null=True)


class NewTopUp(TopUp):
    """A top-up with the page on which a person pays it; the page is open for 24 hours."""

    checkout_url = serializers.CharField()


class Profile(Strict):
    """What invoices say of the customer. Fields that are left out stay as they are."""

    legal_name = serializers.CharField(required=False, allow_blank=True)
    email = serializers.CharField(required=False, allow_blank=True)
    address = serializers.CharField(required=False, allow_blank=True, help_text="Street lines.")
    city = serializers.CharField(required=False, allow_blank=True)
    state = serializers.CharField(required=False, allow_blank=True, help_text="Or province.")
    postal_code = serializers.CharField(required=False, allow_blank=True)
    country = serializers.CharField(
        required=False, allow_blank=True, help_text="ISO 3166, two letters."
    )
    tax_id_type = serializers.CharField(
        required=False, allow_blank=True, help_text=f"One of {', '.join(TAX_ID_TYPES)}."
    )
    tax_id = serializers.CharField(required=False, allow_blank=True)


class Recharge(Strict):
    """Automatic recharge by the saved card."""

    below_nano_usd = serializers.IntegerField(
        allow_null=True, help_text="Recharge when less than this is available; null: never."
    )
    amount_cents = serializers.IntegerField(default=0, min_value=0, max_value=2**31 - 1)
    monthly_cents = serializers.IntegerField(
        default=0, min_value=0, max_value=2**31 - 1, help_text="Most in a UTC month; 0: no limit."
    )


class RechargeState(Recharge):
    """Automatic recharge, and whether one may begin now."""

    charged_this_month_cents = serializers.IntegerField()
    card_saved = serializers.BooleanField()
    stopped = serializers.CharField(
        allow_blank=True, help_text="Why no recharge may begin now; empty if one may."
    )
