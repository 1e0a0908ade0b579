"""Form fields that refuse what the database cannot hold."""

from collections.abc import Iterable
from datetime import date
from typing import Any

from django import forms
from django.core.exceptions import ValidationError

from marketplace.core.text import check_storable
from marketplace.dashboard.periods import FIRST_DAY, LAST_DAY


def in_words(choices: Iterable[tuple[str, Any]]) -> list[tuple[str, str]]:
    """Return choices whose labels are their values as people say them: "GPU second"."""
    said = ((value, value.replace("_", " ").replace("-", " ").capitalize()) for value, _ in choices)
    return [(value, label.replace("Gpu", "GPU")) for value, label in said]


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


class DayField(forms.DateField):
    """A day between 2000 and 2200: the moment after it can be told too."""

    widget = forms.DateInput(attrs={"type": "date"})

    def validate(self, value: date | None) -> None:
        """Raise ValidationError for a day out of bounds."""
        super().validate(value)
        if value is not None and not FIRST_DAY <= value <= LAST_DAY:
            raise ValidationError("Choose a day between the years 2000 and 2200.")
