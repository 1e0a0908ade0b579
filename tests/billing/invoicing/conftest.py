"""Stripe and an organisation that owes, as fixtures."""

import pytest

from billing import customers
from billing.invoicing import subscriptions
from billing.wallets import credit_limit_set
from marketplace.core.clock import now
from marketplace.core.money import to_nano
from tests.billing.invoicing.collecting import SOON, stripe_at
from tests.invoicing import charge


@pytest.fixture
def stripe(settings, standin):
    """The session's stand-in, with this installation set up to bill through it."""
    stripe_at(settings, standin.url)
    return standin


@pytest.fixture
def gateway(settings, own_standin):
    """The gateway to a stand-in that knows nothing yet and whose clock may be moved."""
    stripe_at(settings, own_standin.url)
    return customers.gateway_required()


@pytest.fixture
def spender(cast, gateway):
    """The developer with a limit and a subscription, who owes 2 dollars of 3."""
    credit_limit_set(org_id=cast.developer.pk, limit_nano=to_nano("10"))
    assert subscriptions.subscriptions_ensure() == 1
    cast.charged = charge(cast.developer, cast.vendor, to_nano("3"), at=now() + SOON)
    return cast
