"""The close puts each charge into one invoice, numbers without gaps, and rounds off exactly."""

from datetime import UTC, date, datetime

import pytest

from billing.invoicing.close import close
from billing.models import Charge, Incident, Invoice, Transfer
from billing.selectors import balance_of
from billing.services import credit_grant
from billing.wallets import credit_limit_set
from marketplace.core.errors import WrongState
from marketplace.core.money import to_nano
from tests.invoicing import MID_OCTOBER, OCTOBER, at, charge

pytestmark = pytest.mark.django_db


def test_calls_become_lines_by_model_and_what_paid_them(cast):
    credit_grant(org_id=cast.developer.pk, amount_nano=to_nano("0.5"), source="welcome")
    credit_limit_set(org_id=cast.developer.pk, limit_nano=to_nano("10"))
    for _ in range(3):
        charge(cast.developer, cast.vendor, to_nano("0.6"))  # 0.5 granted, 1 prepaid, 0.3 owed
    charge(cast.developer, cast.vendor, to_nano("2"), model_ref="atelier/clip", version=2)
    report = close(OCTOBER)
    invoice = Invoice.objects.get()
    assert (report.issued, report.due_cents) == (1, 230)
    assert (invoice.granted_nano, invoice.prepaid_nano) == (to_nano("0.5"), to_nano("1"))
    assert (invoice.due_cents, invoice.status) == (230, "open")
    lines = list(invoice.lines.values_list("model_ref", "calls", "quantity", "due_cents"))
    assert lines == [("atelier/clip", 1, 1, 200), ("atelier/sketch", 3, 3, 30)]
    assert Charge.objects.filter(invoice=invoice).count() == 4
    assert invoice.bill_to["name"] == cast.developer.name


def test_closing_again_changes_nothing(cast):
    charge(cast.developer, cast.vendor, 5_000_000)
    close(OCTOBER)
    before = list(Invoice.objects.values())
    assert close(OCTOBER).issued == 0
    assert list(Invoice.objects.values()) == before


def test_what_advance_money_paid_is_paid_at_once(cast):
    charge(cast.developer, cast.vendor, 5_000_000)
    close(OCTOBER)
    invoice = Invoice.objects.get()
    assert (invoice.status, invoice.due_cents, invoice.paid_at is not None) == ("paid", 0, True)


def test_parts_of_a_cent_go_to_rounding(cast):
    credit_limit_set(org_id=cast.developer.pk, limit_nano=to_nano("10"))
    charge(cast.developer, cast.vendor, to_nano("1.123456789"))
    close(OCTOBER)
    assert Invoice.objects.get().due_cents == 12
    assert balance_of(cast.developer.pk).owed_nano == to_nano("0.12")
    assert Transfer.objects.get(kind="rounding").amount_nano == 3_456_789


def test_rounding_of_a_sharded_wallet_is_booked_too(cast):
    from billing.wallets import shard_count_set

    credit_limit_set(org_id=cast.developer.pk, limit_nano=to_nano("10"))
    shard_count_set(org_id=cast.developer.pk, count=4)
    charge(cast.developer, cast.vendor, to_nano("1.126"))
    close(OCTOBER)
    assert balance_of(cast.developer.pk).owed_nano == Invoice.objects.get().due_cents * 10_000_000


def test_numbers_have_no_gaps_and_a_dry_run_takes_none(cast):
    charge(cast.developer, cast.vendor, 5_000_000)
    credit_limit_set(org_id=cast.stranger.pk, limit_nano=to_nano("1"))
    charge(cast.stranger, cast.vendor, 40_000_000)
    assert close(OCTOBER, dry_run=True).issued == 2
    assert not Invoice.objects.exists()
    assert close(OCTOBER, org_id=cast.stranger.pk).issued == 1
    close(OCTOBER)
    year = Invoice.objects.earliest("number").issued_at.year
    numbers = list(Invoice.objects.order_by("number").values_list("number", flat=True))
    assert numbers == [f"M-{year}-000001", f"M-{year}-000002"]


def test_a_late_call_goes_into_the_next_invoice_under_its_true_month(cast, monkeypatch):
    charge(cast.developer, cast.vendor, 5_000_000)
    close(OCTOBER)
    charge(cast.developer, cast.vendor, 6_000_000)  # heard of after the close
    charge(cast.developer, cast.vendor, 7_000_000, at=datetime(2026, 11, 2, tzinfo=UTC))
    assert close(OCTOBER).issued == 0
    at(monkeypatch, datetime(2026, 12, 2, tzinfo=UTC))
    close(date(2026, 11, 1))
    november = Invoice.objects.get(month="2026-11-01")
    lines = november.lines.values_list("month", "amount_nano")
    assert list(lines) == [(date(2026, 11, 1), 7_000_000), (OCTOBER, 6_000_000)]


def test_a_running_month_cannot_be_closed(cast, monkeypatch):
    at(monkeypatch, datetime(2026, 10, 31, 23, 59, tzinfo=UTC))
    with pytest.raises(WrongState):
        close(OCTOBER)


def test_an_invoice_far_above_the_usual_waits_for_approval(cast):
    from billing.invoicing.close import approve
    from billing.services import credit_top_up

    credit_top_up(org_id=cast.developer.pk, amount_nano=to_nano("1000"), source="much")
    charge(cast.developer, cast.vendor, to_nano("1"), at=MID_OCTOBER.replace(month=9))
    close(date(2026, 9, 1))
    charge(cast.developer, cast.vendor, to_nano("101"))
    assert close(OCTOBER).held == 1
    invoice = Invoice.objects.get(month=OCTOBER)
    assert (invoice.status, invoice.number) == ("draft", None)
    assert "5 times" in invoice.held
    assert Incident.objects.get().rule == "invoice held: builders 2026-10"
    approve(invoice=invoice, by=cast.sam)
    assert close(OCTOBER).issued == 1
    invoice.refresh_from_db()
    assert (invoice.status, invoice.held) == ("paid", "")


def test_the_command_closes_and_says_so(cast, capsys):
    from django.core.management import CommandError, call_command

    charge(cast.developer, cast.vendor, 5_000_000)
    call_command("close_month", month="2026-10", org="builders")
    assert "2026-10: 1 invoices issued" in capsys.readouterr().out
    with pytest.raises(CommandError, match="no organisation"):
        call_command("close_month", org="nobody")
    with pytest.raises(CommandError, match="no month"):
        call_command("close_month", month="October")
