"""Every way a request can fail, each with the code that the control plane knows it by."""

from __future__ import annotations


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether the device, or the machine, had too little memory."""
    return type(error).__name__ == "OutOfMemoryError" or isinstance(error, MemoryError)


class EngineError(Exception):
    """A request failed. `code` is a key of `inference.protocol.FAILURES`."""

    code = "engine_error"
    retryable = False
    engine_ms = 0
    """Milliseconds the request had spent on the device when it failed."""


class InvalidRequestError(EngineError, ValueError):
    """A field of the request is wrong; the message begins with its name."""

    code = "invalid_input"


class CancelledError(EngineError):
    """The caller asked to stop."""

    code = "cancelled"


class DeadlineExceededError(EngineError):
    """The deadline passed, or the request used up its time on the device."""

    code = "deadline_exceeded"


class WeightsUnavailableError(EngineError):
    """The weights are not there, may not be read, or do not load."""

    code = "weights_unavailable"
    retryable = True


class WeightsMismatchError(EngineError):
    """The weights are not those that were registered, or are of a kind we refuse."""

    code = "weights_mismatch"


class DeviceMemoryError(EngineError):
    """The device has too little memory for this request."""

    code = "out_of_memory"
    retryable = True


class InvalidProfileError(InvalidRequestError):
    """The version's profile names what the engine does not know. Its vendor must mend it."""

    code = "invalid_profile"
