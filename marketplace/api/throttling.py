"""Token buckets in Valkey: requests are limited, submissions never are, they queue."""

from typing import TYPE_CHECKING, Any

import redis.exceptions
import structlog
from django.conf import settings
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from marketplace.accounts.models import ApiKey
from marketplace.core import valkey
from marketplace.core.errors import TooManyRequests

if TYPE_CHECKING:  # DRF's views import this module through the settings
    from rest_framework.views import APIView

log = structlog.get_logger("mercato.api.throttling")

# What one address may get wrong, before its requests are refused unread.
FAILURES_PER_SECOND = 10.0
FAILURES_BURST = 50

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


def _limit(what: str, bucket: str, rate: float, burst: int, count: int = 1) -> None:
    """Raise TooManyRequests when the bucket is empty; let pass while Valkey is away."""
    try:
        wait = take(bucket, rate, burst, count)
    except redis.exceptions.RedisError as error:
        log.warning("not throttling", error=repr(error))
        return
    if wait > 0:
        seconds = max(1, round(wait + 0.5))
        raise TooManyRequests(
            f"Too many {what}; try again in {seconds} s.", extra={"retry_after": seconds}
        )


class ReadThrottle(BaseThrottle):
    """Limits requests per key, or per address for visitors; not the POST of a view that says so.

    A view says so with `throttle_post = False`.
    """

    def allow_request(self, request: Request, view: "APIView") -> bool:
        """Raise TooManyRequests when the bucket is empty."""
        if request.method == "POST" and not getattr(view, "throttle_post", True):
            return True
        key: Any = request.auth
        bucket = f"key:{key.pk}" if isinstance(key, ApiKey) else f"from:{self.get_ident(request)}"
        _limit("requests", bucket, settings.READS_PER_SECOND, settings.READS_BURST)
        return True


class FailureThrottle(BaseThrottle):
    """Limits failed authentications per address, so that guessing keys costs no query."""

    def check(self, request: Request) -> None:
        """Raise TooManyRequests if this address has failed too often."""
        self._use(request, 0)

    def failed(self, request: Request) -> None:
        """Count a failure."""
        self._use(request, 1)

    def _use(self, request: Request, count: int) -> None:
        bucket = f"failures:{self.get_ident(request)}"
        _limit("failed authentications", bucket, FAILURES_PER_SECOND, FAILURES_BURST, count)
