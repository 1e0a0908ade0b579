"""The Stripe stand-in, as a fixture."""

from tests.stripe_standin import own_standin, shared_standin, standin

__all__ = ["own_standin", "shared_standin", "standin"]
