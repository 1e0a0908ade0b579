"""A call that does not fit into a budget is told what is left of it, spent and held taken off."""

import uuid

import pytest
from django.db import transaction

from billing.services import Cap, hold_reserve
from marketplace.core.errors import InsufficientFunds


def reserve(org, nano, cap):
    with transaction.atomic():
        hold_reserve(source_id=uuid.uuid4(), org_id=org.pk, amount_nano=nano, caps=[cap])


@pytest.mark.parametrize(("budget", "left", "words"), [(10**7, 4 * 10**6, "$0.004"), (0, 0, "$0")])
def test_what_is_left_is_named_beside_the_budget(cast, budget, left, words):
    cap = Cap(uuid.uuid4(), budget, "project")
    if budget:
        reserve(cast.developer, 6 * 10**6, cap)
    with pytest.raises(InsufficientFunds) as caught:
        reserve(cast.developer, 5 * 10**6, cap)
    assert caught.value.extra["budget_left_nano_usd"] == left
    assert f"but only {words}" in caught.value.message
