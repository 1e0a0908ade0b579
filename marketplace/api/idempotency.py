"""The header by which a caller may send a request again, read the same through every door."""

from rest_framework.request import Request

from marketplace.core.errors import InvalidInput

HEADER = "Idempotency-Key"
_MOST = 255


def key_of(request: Request) -> str:
    """Return the caller's key, "" without one. Raises InvalidInput."""
    key = request.headers.get(HEADER, "")
    if len(key) > _MOST or not key.isprintable():
        why = f"At most {_MOST} printable characters."
        raise InvalidInput(f"The {HEADER} is not valid.", fields={HEADER: [why]})
    return key
