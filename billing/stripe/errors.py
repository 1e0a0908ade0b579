"""What can go wrong between Stripe and us, as the few kinds that callers act on."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import stripe

_DUPLICATE_CODE = "duplicate_meter_event"
IDEMPOTENCY = "idempotency_error"
"""The code that we give to the reuse of an Idempotency-Key; Stripe gives it a type only."""
_DUPLICATE_TEXT = "already exists with identifier"


class OutcomeKind(enum.StrEnum):
    """What became of a meter event."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    RETRY = "retry"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of sending one meter event, or one request of the stream.

    ACCEPTED and DUPLICATE both mean that Stripe has it (`delivered`). RETRY: send again later
    with the same identifier and a *fresh* Idempotency-Key, not before `retry_after_s` seconds
    if that is set. REJECTED: the event itself is wrong; sending it again changes nothing.
    """

    kind: OutcomeKind
    reason: str = ""
    retry_after_s: float | None = None
    request_id: str | None = None

    @property
    def is_refusal(self) -> bool:
        """Whether Stripe answered that it did not take the event: no doubt remains."""
        return self.kind is OutcomeKind.REJECTED or self.reason[:2] in ("40", "42")

    @property
    def delivered(self) -> bool:
        """Whether Stripe holds the event."""
        return self.kind in (OutcomeKind.ACCEPTED, OutcomeKind.DUPLICATE)


class GatewayError(Exception):
    """A call other than a meter event failed."""


class GatewayUnavailable(GatewayError):
    """Stripe did not answer, or asked for patience: the same call may work later.

    It may also have been carried out: repeat it under the same key, or look before taking a
    new one.
    """

    def __init__(
        self, reason: str, retry_after_s: float | None = None, *, is_replay: bool = False
    ) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s
        self.is_stored = reason.startswith("5")
        """Whether it was a 5xx, which Stripe replays under the same Idempotency-Key."""
        self.is_replay = is_replay
        """Whether it is the answer of an earlier request under that key."""


class GatewayRefused(GatewayError):
    """Stripe answered that the request is wrong; repeating it changes nothing.

    `code` is Stripe's, such as `resource_missing`; empty when it gave none.
    """

    def __init__(self, reason: str, code: str = "") -> None:
        super().__init__(reason)
        self.code = code

    @property
    def is_final(self) -> bool:
        """Whether the thing itself was refused, and not our key, address or Idempotency-Key."""
        return str(self)[:3] not in ("401", "403", "404") and self.code != IDEMPOTENCY


class PaymentDeclined(GatewayRefused):
    """The customer's bank said no, or wants the customer there. `payment_intent` may be empty."""

    def __init__(
        self, reason: str, code: str = "", *, decline_code: str = "", payment_intent: str = ""
    ) -> None:
        super().__init__(reason, code)
        self.decline_code = decline_code
        self.payment_intent = payment_intent

    @property
    def needs_customer(self) -> bool:
        """Whether the customer must confirm it in person (strong authentication)."""
        return "authentication_required" in (self.code, self.decline_code)


class BalanceInsufficient(GatewayRefused):
    """A transfer above the available balance: nothing moved.

    Stripe keeps this answer under the key, so the next try takes the next `attempt`.
    """


class WebhookRefused(ValueError):
    """A webhook that is not Stripe's, is too old, or is no event. Answer it with 400."""


@contextmanager
def translated() -> Iterator[None]:
    """Turn the SDK's exceptions into GatewayUnavailable, GatewayRefused and its kinds."""
    try:
        yield
    except stripe.StripeError as error:
        raise as_gateway_error(error) from error


def as_gateway_error(error: stripe.StripeError) -> GatewayError:
    """Return the exception to raise for one of the SDK."""
    reason, code = reason_of(error), error.code or ""
    if may_work_later(error):
        replay = (error.headers or {}).get("Idempotent-Replayed") == "true"
        return GatewayUnavailable(reason, retry_after_s(error), is_replay=replay)
    if code == "balance_insufficient":
        return BalanceInsufficient(reason, code)
    if isinstance(error, stripe.CardError):
        details = error.error
        intent = getattr(details, "payment_intent", None) if details else None
        return PaymentDeclined(
            reason,
            code,
            decline_code=(getattr(details, "decline_code", None) if details else None) or "",
            payment_intent=getattr(intent, "id", None) or "",
        )
    if isinstance(error, stripe.IdempotencyError):
        return GatewayRefused(reason, IDEMPOTENCY)
    return GatewayRefused(reason, code)


def outcome_of(error: stripe.StripeError) -> Outcome:
    """Return what an exception of the SDK means for a meter event."""
    reason = reason_of(error)
    if _is_duplicate(error):
        return Outcome(OutcomeKind.DUPLICATE, reason, request_id=error.request_id)
    if may_work_later(error) or _not_about_the_event(error):
        return Outcome(OutcomeKind.RETRY, reason, retry_after_s(error), error.request_id)
    return Outcome(OutcomeKind.REJECTED, reason, request_id=error.request_id)


def may_work_later(error: stripe.StripeError) -> bool:
    """Whether the same call may work later: no answer, 409, 429 or 5xx."""
    status = error.http_status
    return status is None or status in (409, 429) or status >= 500


def reason_of(error: stripe.StripeError) -> str:
    """Say in one line what happened, without the SDK's advice to people at a prompt."""
    status = error.http_status
    if status is None:
        return f"no answer: {type(error.__cause__ or error.__context__ or error).__name__}"
    text = " ".join((error.user_message or type(error).__name__).split())
    return f"{status}: {text}"


def retry_after_s(error: stripe.StripeError) -> float | None:
    """Return the seconds that Stripe asks us to wait, if it did."""
    raw = (error.headers or {}).get("Retry-After")
    try:
        seconds = float(raw) if raw is not None else None
    except ValueError:
        return None
    return seconds if seconds is not None and seconds >= 0 else None


def _is_duplicate(error: stripe.StripeError) -> bool:
    """Stripe's v1 refuses a known identifier without an error code: only the text tells."""
    if error.http_status != 400:
        return False
    return error.code == _DUPLICATE_CODE or _DUPLICATE_TEXT in (error.user_message or "")


def _not_about_the_event(error: stripe.StripeError) -> bool:
    """Whether our key, address or Idempotency-Key was refused: no event deserves quarantine."""
    return error.http_status in (401, 403, 404) or isinstance(error, stripe.IdempotencyError)
