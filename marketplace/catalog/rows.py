"""Inserts a row after checking it, so that what is wrong is told by field."""

from django.core.exceptions import ValidationError
from django.db import IntegrityError, models, transaction

from marketplace.core.errors import InvalidInput


def save_checked(row: models.Model, taken: str) -> None:
    """Validate and insert `row`. Raises InvalidInput naming the bad fields, or `taken`."""
    try:
        row.full_clean(validate_unique=False, validate_constraints=False)
    except ValidationError as error:
        raise InvalidInput("Some fields are wrong.", fields=error.message_dict) from error
    try:
        with transaction.atomic():
            row.save(force_insert=True)
    except IntegrityError as error:
        raise InvalidInput(f"This {taken} is taken.", fields={taken: ["It is taken."]}) from error
