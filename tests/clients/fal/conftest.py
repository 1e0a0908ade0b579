"""The published client as it is: its own hosts lead to us, as an operator may have them do."""

from collections.abc import Callable
from typing import Any

import fal_client
import pytest

from marketplace.api.fal import addresses

Make = Callable[..., fal_client.SyncClient]


@pytest.fixture
def market(tls_market: Any, as_fal: Any, settings: Any) -> Any:
    """The cast, behind fal's own hosts."""
    settings.FAL_HOSTS = dict(addresses.HOSTS)
    return tls_market


@pytest.fixture
def make_client(market: Any) -> Make:
    """Make a client with a key: Bob's, or the one that is named."""

    def make(key: str | None = None) -> fal_client.SyncClient:
        return fal_client.SyncClient(key=market.secret if key is None else key)

    return make


@pytest.fixture
def client(make_client: Make) -> fal_client.SyncClient:
    """Bob's client."""
    return make_client()
