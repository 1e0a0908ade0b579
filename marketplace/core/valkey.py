"""Connections to Valkey: job events, rate limits and worker heartbeats."""

from functools import cache

import redis
import redis.asyncio
from django.conf import settings


@cache
def client() -> "redis.Redis":
    """Return the process-wide client (its pool is thread-safe). Answers are str."""
    return redis.Redis.from_url(
        settings.VALKEY_URL, decode_responses=True, socket_timeout=5, health_check_interval=30
    )


def async_client() -> "redis.asyncio.Redis":
    """Return a new client for the running event loop; the caller closes it.

    Its time-out is longer than any read of ours blocks, or a quiet stream would look like a
    lost connection (redis-py gives up after 5 seconds by itself).
    """
    return redis.asyncio.Redis.from_url(
        settings.VALKEY_URL, decode_responses=True, socket_timeout=30
    )
