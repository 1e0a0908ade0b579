"""Closing dies at any step, runs twice at once, and starts again: each month is stated once."""

import threading
from datetime import UTC, date, datetime
from unittest.mock import patch

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone

from billing.models import Payout, Statement, StatementEntry, StatementLine
from billing.statements.close import statements_close, statements_close_due
from tests.billing.statements.dying import Killed, killed_at
from tests.billing.statements.market import buyer, call, moment, organisation, payout_account

NOVEMBER = date(2026, 11, 1)
USD = 10**9


def three_vendors():
    payer = buyer("bob", prepaid=1000 * USD)
    vendors = [organisation(f"seller{n}") for n in range(3)]
    for n, vendor in enumerate(vendors):
        payout_account(vendor)
        for _ in range(n + 1):
            call(payer, 10 * USD, [(vendor, 8000)], moment("2026-11-20"))
    return vendors


def check_three():
    found = Statement.objects.order_by("number")
    assert [row.number for row in found] == [f"S202611-00000{n}" for n in (1, 2, 3)]
    assert sorted(row.payout_cents for row in found) == [800, 1600, 2400]
    assert StatementEntry.objects.count() == 6
    assert StatementLine.objects.count() == Payout.objects.count() == 3


@pytest.mark.django_db
def test_killed_at_every_query_it_goes_on_where_it_stopped(at):
    three_vendors()
    at("2026-12-04")
    step = 0
    while True:
        step += 1
        with killed_at(step) as seen:
            try:
                list(statements_close(month=NOVEMBER))
            except Killed:
                continue
        if len(seen) < step:
            break
    assert step > 12, "it was killed at every query of what was left to do"
    check_three()


def test_four_at_once_state_each_vendor_once(transactional_db):
    three_vendors()
    failures = []
    ready = threading.Barrier(4)

    def run():
        try:
            connection.ensure_connection()
            ready.wait(30)
            list(statements_close(month=NOVEMBER))
        except Exception as error:
            failures.append(error)
        finally:
            connection.close()

    late = datetime(2026, 12, 4, tzinfo=UTC)
    with patch.object(timezone, "now", lambda: late):
        threads = [threading.Thread(target=run) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert failures == []
    check_three()


@pytest.mark.django_db
def test_the_command_shows_closes_and_repeats(at, capsys):
    three_vendors()
    at("2026-12-04")
    call_command("close_statements", dry_run=True)
    assert "payout $24.00" in capsys.readouterr().out
    assert not Statement.objects.exists()
    call_command("close_statements", month="2026-11", org="seller1")
    assert "1 statements of 2026-11" in capsys.readouterr().out
    call_command("close_statements")
    assert "2 statements of 2026-11" in capsys.readouterr().out
    call_command("close_statements")
    assert "0 statements of 2026-11" in capsys.readouterr().out


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"month": "2026-12"}, "has not ended"),
        ({"month": "november"}, "is not a month"),
        ({"org": "nobody"}, "no organisation nobody"),
    ],
)
def test_the_command_refuses_what_cannot_be(at, options, said):
    at("2026-12-04")
    with pytest.raises(CommandError, match=said):
        call_command("close_statements", **options)


@pytest.mark.django_db
def test_the_beat_waits_some_days_for_the_invoices(at, settings):
    settings.STATEMENT_DELAY_DAYS = 3
    three_vendors()
    for moment_, count in (("2026-12-01T01:00", 0), ("2026-12-03T23:00", 0), ("2026-12-04", 3)):
        at(moment_)
        assert statements_close_due() == count
