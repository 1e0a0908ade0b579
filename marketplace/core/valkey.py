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
    """Return a new client for the running event loop; the caller closes it."""
    return redis.asyncio.Redis.from_url(settings.VALKEY_URL, decode_responses=True)
