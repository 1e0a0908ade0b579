"""Staff see what invoices and statements of the running month look like; nothing is written."""

import re

import pytest
import weasyprint
from django.core.management import CommandError, call_command

from billing.models import Invoice, Statement, Transfer
from billing.statements.close import statement_close
from marketplace.core.errors import InvalidInput
from tests.billing.statements.market import buyer, call, moment, organisation

pytestmark = pytest.mark.django_db
USD = 10**9


@pytest.fixture
def market(at):
    """Atelier earned 8 dollars from bob, who owes 10, in the month that runs."""
    vendor = organisation("atelier")
    call(buyer("bob", limit=100 * USD), 10 * USD, [(vendor, 8000)], moment("2026-11-20"))
    payer = buyer("carol", prepaid=100 * USD)
    call(payer, 5 * USD, [(vendor, 8000)], moment("2026-11-20"))
    return vendor


@pytest.fixture
def drawn(monkeypatch):
    """The words of each document that is drawn, in order."""
    words = []
    draw = weasyprint.HTML

    def reading(string, **options):
        words.append(" ".join(re.sub(r"<[^>]+>", " ", string).split()))
        return draw(string=string, **options)

    monkeypatch.setattr(weasyprint, "HTML", reading)
    return words


def test_the_invoice_so_far_is_told_and_written_as_a_preview(market, drawn, tmp_path, capsys):
    moves = Transfer.objects.count()
    call_command("close_month", dry_run=True, org="bob", out=str(tmp_path / "new"))
    said = capsys.readouterr().out
    assert "2026-11 so far, it has not ended: 1 invoices would be issued, 10.00 USD due" in said
    path = tmp_path / "new" / "preview-invoice-bob-2026-11.pdf"
    assert path.read_bytes().startswith(b"%PDF")
    (text,) = drawn
    assert "Preview" in text
    assert "Would be due $10.00" in text
    assert "Outstanding" not in text
    assert (Invoice.objects.count(), Transfer.objects.count()) == (0, moves)


def test_the_statement_so_far_is_told_and_written_as_a_preview(market, drawn, tmp_path, capsys):
    moves = Transfer.objects.count()
    call_command("close_statements", dry_run=True, org="atelier", out=str(tmp_path))
    said = capsys.readouterr().out
    assert "2026-11 so far, it has not ended:\natelier" in said
    assert "Nothing was closed." in said
    path = tmp_path / "preview-statement-atelier-2026-11.pdf"
    assert path.read_bytes().startswith(b"%PDF")
    (text,) = drawn
    assert "Preview of a statement" in text
    assert "Earned $4.00" in text
    assert "$8.00 more is pending" in text
    header, row = path.with_suffix(".csv").read_text().splitlines()
    assert header.startswith("statement,")
    assert row.startswith("preview,")
    assert (Statement.objects.count(), Transfer.objects.count()) == (0, moves)


def test_only_a_dry_run_answers_before_the_month_has_ended(market, at):
    for command in ("close_month", "close_statements"):
        with pytest.raises(CommandError, match="--dry-run shows it so far"):
            call_command(command, month="2026-11")
        with pytest.raises(CommandError, match="has not begun"):
            call_command(command, month="2026-12", dry_run=True)
        with pytest.raises(CommandError, match="add --dry-run and --org"):
            call_command(command, month="2026-11", out="somewhere")
    with pytest.raises(InvalidInput):
        statement_close(org_id=market.pk, month=moment("2026-11-01").date())
