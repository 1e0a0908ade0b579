"""The Stripe stand-in, as a fixture."""

from tests.stripe_standin import shared_standin, standin

__all__ = ["shared_standin", "standin"]
