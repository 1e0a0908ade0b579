"""Form fields that refuse what the database cannot hold."""

from typing import Any

from django import forms
from django.core.exceptions import ValidationError

from marketplace.core.text import check_storable


class CleanJSONField(forms.JSONField):
    """A JSON field with the same limits as the API's bodies."""

    def prepare_value(self, value: Any) -> Any:
        """Write JSON; nothing at all is an empty box, and not "null"."""
        return "" if value is None else super().prepare_value(value)

    def to_python(self, value: Any) -> Any:
        """Return the parsed JSON. Raises ValidationError."""
        try:
            data = super().to_python(value)
            check_storable(data)
        except (ValueError, RecursionError) as error:
            raise ValidationError(f"This JSON cannot be used: {error}") from error
        return data
