"""Client of a Mercato market: `Mercato` for blocking code, `AsyncMercato` for asyncio."""

from mercato.aio import AsyncMercato
from mercato.client import Mercato
from mercato.errors import (
    ApiError,
    AuthenticationError,
    Conflict,
    ConnectionFailed,
    InsufficientFunds,
    InvalidInput,
    JobCancelled,
    JobFailed,
    MercatoError,
    NotAllowed,
    NotFound,
    QuoteTooHigh,
    RateLimited,
    Timeout,
    Unavailable,
)
from mercato.models import Input, Model, Version
from mercato.money import nano_usd, usd
from mercato.types import Balance, Event, File, Job, JobError, Output, Outputs, Quote
from mercato.version import VERSION
from mercato.webhooks import WebhookRefused, verify_webhook

__version__ = VERSION
__all__ = [
    "VERSION",
    "ApiError",
    "AsyncMercato",
    "AuthenticationError",
    "Balance",
    "Conflict",
    "ConnectionFailed",
    "Event",
    "File",
    "Input",
    "InsufficientFunds",
    "InvalidInput",
    "Job",
    "JobCancelled",
    "JobError",
    "JobFailed",
    "Mercato",
    "MercatoError",
    "Model",
    "NotAllowed",
    "NotFound",
    "Output",
    "Outputs",
    "Quote",
    "QuoteTooHigh",
    "RateLimited",
    "Timeout",
    "Unavailable",
    "Version",
    "WebhookRefused",
    "nano_usd",
    "usd",
    "verify_webhook",
]  # fmt: skip
