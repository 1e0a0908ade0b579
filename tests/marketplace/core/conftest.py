"""The developer's server, as a fixture."""

from tests.receiver import receiver

__all__ = ["receiver"]
