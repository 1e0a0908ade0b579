"""Stripe's error envelope, so that the SDK raises here what it raises against Stripe."""

from __future__ import annotations

from typing import Any


class ApiError(Exception):
    """One refusal, as Stripe words it.

    `stored` says whether the refusal is kept under the request's Idempotency-Key: Stripe keeps
    what an endpoint answered once it began, and not what parameter checks refused
    (https://docs.stripe.com/api/idempotent_requests). `keeps`: what the request changed stays,
    as a declined payment leaves its PaymentIntent. `details` are more fields of the error.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        type_: str = "invalid_request_error",
        code: str | None = None,
        param: str | None = None,
        headers: dict[str, str] | None = None,
        stored: bool = False,
        details: dict[str, Any] | None = None,
        keeps: bool = False,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.type = type_
        self.code = code
        self.param = param
        self.headers = headers or {}
        self.stored = stored
        self.details = details or {}
        self.keeps = keeps

    def body(self) -> dict[str, Any]:
        """Return the JSON body: `{"error": {"type", "message", "code"?, "param"?}}`."""
        error: dict[str, Any] = {"message": self.message, "type": self.type, **self.details}
        if self.code is not None:
            error["code"] = self.code
            error["doc_url"] = f"https://stripe.com/docs/error-codes/{self.code.replace('_', '-')}"
        if self.param is not None:
            error["param"] = self.param
        return {"error": error}


def resource_missing(kind: str, id_: str, *, param: str, status: int = 404) -> ApiError:
    """Return Stripe's "No such customer: 'cus_x'": 404 for a path, 400 for a parameter."""
    return ApiError(
        f"No such {kind}: '{id_}'", status=status, code="resource_missing", param=param, stored=True
    )
