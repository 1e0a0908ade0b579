"""JSON bodies, without the characters that PostgreSQL cannot store."""

from typing import IO, Any

from rest_framework.exceptions import ParseError
from rest_framework.parsers import JSONParser


def _check(node: Any, depth: int = 0) -> None:
    if depth > 32:
        raise ParseError("The JSON is nested too deeply.")
    if isinstance(node, str):
        if "\x00" in node:
            raise ParseError("A text contains a NUL character.")
        try:
            node.encode()
        except UnicodeEncodeError as error:
            raise ParseError("A text contains half of a surrogate pair.") from error
    elif isinstance(node, dict):
        for name, value in node.items():
            _check(name, depth + 1)
            _check(value, depth + 1)
    elif isinstance(node, list):
        for value in node:
            _check(value, depth + 1)


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
        _check(data)
        return data
