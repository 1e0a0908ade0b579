"""Token buckets in Valkey: how often something may be done, over all processes."""

import uuid

import redis.exceptions
import structlog
from django.conf import settings
from django.http import HttpRequest
from rest_framework.throttling import BaseThrottle

from marketplace.core import valkey
from marketplace.core.errors import TooManyRequests

log = structlog.get_logger("mercato.core.limits")

# KEYS[1] bucket; ARGV rate per second, burst, tokens to take (0 or 1).
# Valkey's own clock: web processes may differ.
# Returns milliseconds to wait, 0 if the token was taken.
_SCRIPT = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local rate, burst = tonumber(ARGV[1]) / 1000, tonumber(ARGV[2])
local state = redis.call('HMGET', KEYS[1], 'tokens', 'at')
local tokens = math.min(burst, (tonumber(state[1]) or burst) + (now - (tonumber(state[2]) or now)) * rate)
local wait = 0
if tokens >= 1 then tokens = tokens - tonumber(ARGV[3]) else wait = math.ceil((1 - tokens) / rate) end
redis.call('HSET', KEYS[1], 'tokens', tostring(tokens), 'at', now)
redis.call('PEXPIRE', KEYS[1], math.ceil(burst / rate) + 1000)
return wait
"""  # noqa: E501


def take(bucket: str, rate: float, burst: int, count: int = 1) -> float:
    """Take one token, or with 0 only look. Returns the seconds to wait, 0 if it was there."""
    script = valkey.client().register_script(_SCRIPT)
    return int(script(keys=[f"throttle:{bucket}"], args=[rate, burst, count])) / 1000


def require(what: str, bucket: str, rate: float, burst: int, count: int = 1) -> None:
    """Take one token, or look. Raises TooManyRequests without; lets pass while Valkey is away."""
    try:
        wait = take(bucket, rate, burst, count)
    except redis.exceptions.RedisError as error:
        log.warning("not limiting", bucket=bucket, error=repr(error))
        return
    if wait > 0:
        seconds = max(1, round(wait + 0.5))
        raise TooManyRequests(
            f"Too many {what}; try again in {seconds} s.", extra={"retry_after": seconds}
        )


def address_of(request: HttpRequest) -> str:
    """Return the caller's address as the API counts it: behind a trusted proxy, not the proxy's."""
    return str(BaseThrottle().get_ident(request))  # type: ignore[arg-type]


def heavy(org_id: uuid.UUID) -> None:
    """Count one of an organisation's requests that cost much: sums of a month, files, Stripe.

    Raises TooManyRequests.
    """
    rate, burst = settings.HEAVY_PER_SECOND, settings.HEAVY_BURST
    require("previews, files and payment pages", f"heavy:{org_id}", rate, burst)
