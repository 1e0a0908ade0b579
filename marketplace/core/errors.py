"""Errors that a caller can cause or must know: each has a stable code and an HTTP status."""

from typing import Any


class MarketError(Exception):
    """Base of all expected errors; `fields` maps an input field to what is wrong with it."""

    status = 400
    code = "invalid_request"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        fields: dict[str, list[str]] | None = None,
        extra: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.code
        self.fields = fields or {}
        self.extra = extra or {}


class InvalidInput(MarketError):
    """The request is well-formed but a field is wrong."""

    status = 422
    code = "invalid_input"


class NotFound(MarketError):
    """It does not exist, or the caller may not know that it does."""

    status = 404
    code = "not_found"


class NotAuthenticated(MarketError):
    """No key, or a key that is mistyped, revoked or expired."""

    status = 401
    code = "not_authenticated"


class NotAllowed(MarketError):
    """The caller is known but may not do this."""

    status = 403
    code = "not_allowed"


class InsufficientFunds(MarketError):
    """The quote does not fit into the balance, the credit limit or the key's budget."""

    status = 402
    code = "insufficient_funds"


class BodyTooLarge(MarketError):
    """A request has more bytes, or a form more fields, than its route takes."""

    status = 413
    code = "body_too_large"


class TooManyRequests(MarketError):
    """Reads are limited per key; `extra["retry_after"]` says for how many seconds."""

    status = 429
    code = "rate_limited"


class WrongState(MarketError):
    """The thing is not in a state in which this can be done."""

    status = 409
    code = "wrong_state"
