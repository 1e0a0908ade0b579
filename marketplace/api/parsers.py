"""JSON bodies, without the characters that PostgreSQL cannot store."""

from typing import IO, Any

from rest_framework.exceptions import ParseError
from rest_framework.parsers import JSONParser

from marketplace.core.text import check_storable


class CleanJSONParser(JSONParser):
    """Refuses NUL, lone surrogates, NaN and deep nesting with a clear 400."""

    strict = True

    def parse(
        self, stream: IO[Any], media_type: str | None = None, parser_context: Any = None
    ) -> Any:
        """Return the parsed body. Raises ParseError."""
        try:
            data = super().parse(stream, media_type, parser_context)
        except RecursionError as error:
            raise ParseError("The JSON is nested too deeply.") from error
        try:
            check_storable(data)
        except ValueError as error:
            raise ParseError(str(error)) from error
        return data
