"""The shapes of webhooks in API v1."""

from typing import Any

from rest_framework import serializers

from marketplace.accounts.webhook_models import HookEvent
from marketplace.api.strict import Strict
from marketplace.core.outbox import Delivery
from marketplace.jobs.deliveries import KINDS

_ODD: dict[str, Any] = {
    "invalid_choice": f'"{{input}}" is none that endpoints hear of: {", ".join(HookEvent.values)}.'
}
_FEW: dict[str, Any] = {"min_length": "Name at least one."}


def _events(help_text: str | None = None) -> serializers.ListField:
    """Return the field for the kinds of events that an endpoint is told of."""
    return serializers.ListField(
        child=serializers.ChoiceField(HookEvent.choices, error_messages=_ODD),
        min_length=1,
        max_length=len(HookEvent),
        error_messages=_FEW,
        required=False,
        help_text=help_text,
    )


class EndpointCreate(Strict):
    """A new endpoint."""

    url = serializers.CharField(max_length=2000, help_text="Public; http or https.")
    events = _events("All of them if left out.")
    note = serializers.CharField(max_length=120, required=False, allow_blank=True)


class EndpointPatch(Strict):
    """What to change of an endpoint."""

    url = serializers.CharField(max_length=2000, required=False)
    events = _events()
    note = serializers.CharField(max_length=120, required=False, allow_blank=True)
    on = serializers.BooleanField(required=False)


class Endpoint(serializers.Serializer):  # type: ignore[type-arg]
    """An address that is told of events."""

    id = serializers.UUIDField()
    url = serializers.CharField()
    events = serializers.ListField(child=serializers.ChoiceField(HookEvent.choices))
    note = serializers.CharField()
    on = serializers.BooleanField()
    off_at = serializers.DateTimeField(allow_null=True)
    off_why = serializers.CharField(help_text="Why the platform switched it off; else empty.")
    failing_since = serializers.DateTimeField(
        allow_null=True, help_text="Since then nothing got through."
    )
    created_at = serializers.DateTimeField()


class DeliveryRow(serializers.Serializer):  # type: ignore[type-arg]
    """One event for one address."""

    id = serializers.UUIDField(help_text="The `webhook-id` that it is sent with.")
    kind = serializers.ChoiceField(list(KINDS), help_text="What it is about.")
    event = serializers.CharField()
    url = serializers.CharField()
    endpoint = serializers.UUIDField(
        allow_null=True, help_text="None for the `webhook_url` of a job."
    )
    job = serializers.UUIDField(allow_null=True)
    status = serializers.ChoiceField(Delivery.choices)
    attempts = serializers.IntegerField()
    last_status = serializers.IntegerField(
        allow_null=True, help_text="The HTTP status of its last answer."
    )
    last_error = serializers.CharField()
    next_attempt_at = serializers.DateTimeField(allow_null=True)
    delivered_at = serializers.DateTimeField(allow_null=True)
    created_at = serializers.DateTimeField()


class DeliveryDetail(DeliveryRow):
    """One event with what was sent and answered."""

    payload = serializers.JSONField()
    last_answer = serializers.CharField(help_text="Its first 2,000 characters.")


class Replayed(serializers.Serializer):  # type: ignore[type-arg]
    """How many events are sent again."""

    count = serializers.IntegerField()


class Secret(serializers.Serializer):  # type: ignore[type-arg]
    """What webhooks are signed with."""

    secret = serializers.CharField(help_text="whsec_ and base64, as Standard Webhooks has it.")


class NewSecret(Secret):
    """A secret just made."""

    both_until = serializers.DateTimeField(
        help_text="Until then webhooks carry a signature by the secret before it, too."
    )
