"""Forms that take a second factor's code: one that just ran out counts too, and each only once."""

from allauth.mfa import app_settings
from allauth.mfa.base.forms import AuthenticateForm, BaseAuthenticateForm, ReauthenticateForm
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal.auth import TOTP
from django.core.cache import cache


class _OnceOnly(BaseAuthenticateForm):  # type: ignore[misc]  # allauth has no types
    """Refuse a code for as long as it would fit, as RFC 6238 (5.2) asks.

    allauth forgets a used code after one step, but with a tolerance it fits for three.
    """

    def clean_code(self) -> str:
        code: str = super().clean_code()
        if self.authenticator.type == Authenticator.Type.TOTP:
            fits_s = app_settings.TOTP_PERIOD * (1 + 2 * app_settings.TOTP_TOLERANCE)
            cache.set(TOTP(self.authenticator)._get_used_cache_key(code), "y", timeout=fits_s)
        return code


class SignInCodeForm(_OnceOnly, AuthenticateForm):  # type: ignore[misc]
    """Asks for the code at sign-in."""


class ConfirmCodeForm(_OnceOnly, ReauthenticateForm):  # type: ignore[misc]
    """Asks for the code again before something that needs it."""
