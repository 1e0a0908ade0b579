"""The Stripe stand-in, as a fixture."""

from tests.stripe_standin import _second_standin, own_standin, shared_standin, standin

__all__ = ["_second_standin", "own_standin", "shared_standin", "standin"]
