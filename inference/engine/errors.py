"""Every way a request can fail, each with the code that the control plane knows it by."""

from __future__ import annotations


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether the device, or the machine, had too little memory."""
    return type(error).__name__ == "OutOfMemoryError" or isinstance(error, MemoryError)


LOST = (
    "illegal memory access",
    "illegal instruction",
    "device-side assert",
    "unspecified launch failure",
    "misaligned address",
    "invalid address space",
    "invalid program counter",
    "hardware stack error",
    "launch timed out",
    "uncorrectable ecc error",
    "context is destroyed",
    "gpu has fallen off",
)
"""What CUDA says in lower case where a process can use the device no more."""


def is_device_lost(error: BaseException | None) -> bool:
    """Tell whether `error`, or what caused it, leaves the device useless to this process."""
    while error is not None:
        said = str(error).lower()
        kind = isinstance(error, RuntimeError)
        if kind and ("cuda" in said or "gpu" in said) and any(text in said for text in LOST):
            return True
        error = error.__cause__
    return False


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


class DeviceLostError(EngineError):
    """The device is of no use to this process any more; another one may do the work."""

    code = "worker_lost"
    retryable = True


class InvalidProfileError(InvalidRequestError):
    """The version's profile names what the engine does not know. Its vendor must mend it."""

    code = "invalid_profile"


def as_engine_error(error: BaseException) -> EngineError:
    """Return what a request is told of whatever ended it, with the cause where it is another."""
    if isinstance(error, DeviceLostError):
        return error
    if is_device_lost(error):
        failure: EngineError = DeviceLostError("the worker's device failed")
    elif isinstance(error, EngineError):
        return error
    elif is_out_of_memory(error):
        failure = DeviceMemoryError("the device has too little memory for this")
    else:
        failure = EngineError(f"the model failed ({type(error).__name__})")
    failure.__cause__ = error
    return failure
