"""The Stripe stand-in, as a fixture."""

from typing import Any

import pytest

from tests.billing.payin import SECRET
from tests.stripe_standin import Handle, _second_standin, own_standin, shared_standin, standin

__all__ = ["_second_standin", "own_standin", "shared_standin", "standin"]


@pytest.fixture
def payments(settings: Any, standin: Handle) -> Handle:
    """The stand-in, with this installation set up to be paid through it."""
    settings.STRIPE_API_KEY, settings.STRIPE_API_BASE = "sk_test_x", standin.url
    settings.STRIPE_WEBHOOK_SECRET = [SECRET]
    return standin
