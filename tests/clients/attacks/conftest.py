"""Models of more kinds than the cast has."""

from tests.clients.openai.conftest import filmer

__all__ = ["filmer"]
