"""The published client, pointed at us as anybody would."""

from collections.abc import Callable
from typing import Any

import pytest
import replicate

Make = Callable[..., replicate.Client]


@pytest.fixture
def make_client(market: Any) -> Make:
    """Make a client with a key: Bob's, or the one that is named."""

    def make(token: str | None = None) -> replicate.Client:
        made = replicate.Client(
            api_token=market.secret if token is None else token, base_url=f"{market.url}/replicate"
        )
        made.poll_interval = 0.05
        return made

    return make


@pytest.fixture
def client(make_client: Make) -> replicate.Client:
    """Bob's client."""
    return make_client()
