"""What can go wrong, each thing as an exception of its own below `MercatoError`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mercato.types import Job


class MercatoError(Exception):
    """Base of all that this package raises."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class ConnectionFailed(MercatoError):
    """The market was not reached, or the connection broke, and repeating did not help."""


class Timeout(MercatoError):
    """A job has not ended in the time that was given. It goes on: `job` can be waited for."""

    def __init__(self, message: str, job: Job) -> None:
        super().__init__(message)
        self.job = job


class ApiError(MercatoError):
    """The market refused a request.

    `status` is HTTP's, `code` the market's stable word for it, `fields` maps the name of a field
    to what is wrong with it, `details` holds whatever else the answer says of the error.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 0,
        code: str = "",
        fields: dict[str, list[str]] | None = None,
        details: dict[str, Any] | None = None,
        request_id: str = "",
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.fields = fields or {}
        self.details = details or {}
        self.request_id = request_id
        self.retry_after = retry_after


class AuthenticationError(ApiError):
    """No key, or one that is mistyped, revoked or expired (401)."""


class InsufficientFunds(ApiError):
    """The quote does not fit into the balance or a budget (402). Nothing was started."""


class NotAllowed(ApiError):
    """The key may not do this, or a licence has to be accepted first (403)."""


class NotFound(ApiError):
    """It does not exist, or is not yours (404)."""


class Conflict(ApiError):
    """Not in a state in which this can be done (409)."""


class InvalidInput(ApiError):
    """A field is wrong (400, 413, 415, 422): `fields` says which, and why."""


class QuoteTooHigh(InvalidInput):
    """The call would cost more than `max_charge`. Nothing was started."""


class RateLimited(ApiError):
    """Too many requests (429), after repeating; `retry_after` is in seconds."""


class Unavailable(ApiError):
    """The market cannot answer (5xx), after repeating."""


class _Ended(MercatoError):
    """A job ended without a result."""

    def __init__(self, message: str, job: Job) -> None:
        super().__init__(message)
        self.job = job


class JobFailed(_Ended):
    """The job failed, free of charge; `job.error` has code and message."""


class JobCancelled(_Ended):
    """The job was cancelled, free of charge."""


BY_STATUS: dict[int, type[ApiError]] = {
    400: InvalidInput,
    401: AuthenticationError,
    402: InsufficientFunds,
    403: NotAllowed,
    404: NotFound,
    409: Conflict,
    413: InvalidInput,
    415: InvalidInput,
    422: InvalidInput,
    429: RateLimited,
}
BY_CODE: dict[str, type[ApiError]] = {
    "calls_off": Unavailable,
    "idempotency_key_reused": Conflict,
    "quote_above_limit": QuoteTooHigh,
}
