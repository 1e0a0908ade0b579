"""Reads are limited by a token bucket in Valkey; submissions never are, they queue."""

from typing import TYPE_CHECKING, Any

import redis.exceptions
import structlog
from django.conf import settings
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from marketplace.api.auth import Caller
from marketplace.core import valkey
from marketplace.core.errors import TooManyRequests

if TYPE_CHECKING:  # DRF's views import this module through the settings
    from rest_framework.views import APIView

log = structlog.get_logger("mercato.api.throttling")

# KEYS[1] bucket; ARGV rate per second, burst. Valkey's own clock: web processes may differ.
# Returns milliseconds to wait, 0 if the token was taken.
_SCRIPT = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local rate, burst = tonumber(ARGV[1]) / 1000, tonumber(ARGV[2])
local state = redis.call('HMGET', KEYS[1], 'tokens', 'at')
local tokens = math.min(burst, (tonumber(state[1]) or burst) + (now - (tonumber(state[2]) or now)) * rate)
local wait = 0
if tokens >= 1 then tokens = tokens - 1 else wait = math.ceil((1 - tokens) / rate) end
redis.call('HSET', KEYS[1], 'tokens', tostring(tokens), 'at', now)
redis.call('PEXPIRE', KEYS[1], math.ceil(burst / rate) + 1000)
return wait
"""  # noqa: E501


def take(bucket: str, rate: float, burst: int) -> float:
    """Take one token. Returns the seconds to wait, 0 if it was there."""
    script = valkey.client().register_script(_SCRIPT)
    return int(script(keys=[f"throttle:{bucket}"], args=[rate, burst])) / 1000


class ReadThrottle(BaseThrottle):
    """Limits everything but POST per key, or per address for visitors."""

    def allow_request(self, request: Request, view: "APIView") -> bool:
        """Raise TooManyRequests when the bucket is empty; let pass while Valkey is away."""
        if request.method == "POST":
            return True
        caller: Any = request.user
        bucket = f"key:{caller.pk}" if isinstance(caller, Caller) else self.get_ident(request)
        try:
            wait = take(bucket, settings.READS_PER_SECOND, settings.READS_BURST)
        except redis.exceptions.RedisError as error:
            log.warning("not throttling", error=repr(error))
            return True
        if wait > 0:
            seconds = max(1, round(wait + 0.5))
            raise TooManyRequests(
                f"Too many reads; try again in {seconds} s.", extra={"retry_after": seconds}
            )
        return True
