"""Bodies as their description says: no unknown field, and no value of another JSON type.

DRF takes 0 for "0" and "true" for true. A client that sends these has a fault, which is told.
"""

from typing import Any

from rest_framework import serializers


def _problem(field: serializers.Field[Any, Any, Any, Any], value: object) -> str:
    """Return what is wrong with the JSON type of a value, or nothing."""
    if value is None:
        return ""  # whether it may be null is the field's part
    if isinstance(field, serializers.ListField) and isinstance(value, list):
        return next((found for item in value if (found := _problem(field.child, item))), "")
    text = serializers.CharField, serializers.ChoiceField, serializers.UUIDField
    if isinstance(field, (*text, serializers.DateTimeField)) and not isinstance(value, str):
        return "Not a valid string."
    if isinstance(field, serializers.BooleanField) and not isinstance(value, bool):
        return "Must be true or false."
    if isinstance(field, serializers.IntegerField):
        whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
        if isinstance(value, bool) or not whole:
            return "A valid integer is required."
    return ""


class Strict(serializers.Serializer):  # type: ignore[type-arg]
    """Refuses fields that it does not know, so that a typo is told, and values of other types."""

    def to_internal_value(self, data: object) -> object:
        """Check for unknown fields and JSON types first."""
        if isinstance(data, dict):
            wrong = {
                str(name): ["There is no such field."] for name in set(data) - set(self.fields)
            }
            for name, field in self.fields.items():
                if name in data and (why := _problem(field, data[name])):
                    wrong[name] = [why]
            if wrong:
                raise serializers.ValidationError(dict(sorted(wrong.items())))
        return super().to_internal_value(data)
