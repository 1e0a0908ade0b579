"""Token buckets in Valkey: requests are limited, submissions never are, they queue."""

from typing import TYPE_CHECKING, Any

from django.conf import settings
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from marketplace.accounts.models import ApiKey
from marketplace.core.limits import require

if TYPE_CHECKING:  # DRF's views import this module through the settings
    from rest_framework.views import APIView

# What one address may get wrong, before its requests are refused unread.
FAILURES_PER_SECOND = 10.0
FAILURES_BURST = 50


class ReadThrottle(BaseThrottle):
    """Limits requests per key, or per address for visitors; not the POST of a view that says so.

    A view says so with `throttle_post = False`.
    """

    def allow_request(self, request: Request, view: "APIView") -> bool:
        """Raise TooManyRequests when the bucket is empty."""
        if request.method == "POST" and not getattr(view, "throttle_post", True):
            return True
        if getattr(request._request, "scope", {}).get("mercato.asked"):  # see api.waiting
            return True
        key: Any = request.auth
        bucket = f"key:{key.pk}" if isinstance(key, ApiKey) else f"from:{self.get_ident(request)}"
        require("requests", bucket, settings.READS_PER_SECOND, settings.READS_BURST)
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
        require("failed authentications", bucket, FAILURES_PER_SECOND, FAILURES_BURST, count)
