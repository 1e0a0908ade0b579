"""The staff console's own pages."""

import pytest

from tests.cast import staff_sign_in


@pytest.fixture
def sam(client, cast):
    staff_sign_in(client, cast.sam)
    return client


def test_staff_see_the_market_and_the_ledger(sam, make_job):
    make_job("succeeded")
    front = sam.get("/console/").content.decode()
    assert "What needs you" in front
    assert "not balanced" not in sam.get("/console/ledger/").content.decode()
    sam.post("/console/ledger/invariants/")
    rules = sam.get("/console/ledger/invariants/").content.decode()
    assert "every charge passes through clearing whole" in rules
    assert "broken" not in rules


def test_a_broken_rule_shows_on_the_ledger_page(sam, cast):
    from django.db import transaction

    from billing.models import WalletShard

    with transaction.atomic():
        WalletShard.objects.filter(org=cast.developer).update(held_nano=5)
        sam.post("/console/ledger/invariants/")
        page = sam.get("/console/ledger/invariants/").content.decode()
        assert "broken by 1 row" in page
        transaction.set_rollback(True)


def test_others_are_sent_away(bob, visitor):
    assert bob.get("/console/").status_code == 302
    assert visitor.get("/console/ledger/").status_code == 302
