"""Tells whether a session has shown a second factor: what staff see needs one."""

from allauth.account.authentication import get_authentication_records
from allauth.mfa.utils import is_mfa_enabled
from django.conf import settings
from django.http import HttpRequest


def has_second_factor(request: HttpRequest) -> bool:
    """Tell whether this very session was opened, or confirmed, with a second factor."""
    if not settings.CONSOLE_SECOND_FACTOR:
        return True
    records = get_authentication_records(request, request.user)
    shown = any(record.get("method") == "mfa" for record in records)
    return shown and bool(is_mfa_enabled(request.user))
