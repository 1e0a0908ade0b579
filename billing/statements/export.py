"""Statements as files: CSV with a row per transfer, PDF with a row per line."""

import tempfile
import uuid
from datetime import date
from typing import IO, Any

from django.db import connection, transaction

from billing.documents import render_pdf
from billing.models import Account, AccountKind, Statement
from billing.statements import queries
from billing.statements.close import statement_write
from billing.statements.draft import CENT_NANO
from billing.statements.selectors import payout_of, payout_words

PREVIEW_NUMBER = "preview"
PDF_LINES = 500
"""More lines than these are in the CSV only."""
_IN_MEMORY = 2**20


def statement_csv(statement: Statement) -> IO[bytes]:
    """Return a file, at its beginning, with one row per transfer of a statement, oldest first.

    amount_nano_usd = gross_charge_nano_usd × share_bps // 10000 for a share; the amounts of all
    rows add up to what was earned and what came back of payouts, less what refunds took back.
    """
    account = Account.objects.get(org_id=statement.org_id, kind=AccountKind.PAYABLE)
    file = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115  (the caller closes)
    parameters = {"account": account.pk, "statement": statement.pk}
    with connection.cursor() as cursor, cursor.copy(queries.EXPORT, parameters) as rows:
        for part in rows:
            file.write(part)
    file.seek(0)
    return file


def statement_context(statement: Statement) -> dict[str, Any]:
    """Return what the page and the PDF of a statement show."""
    lines = list(statement.lines.all()[: PDF_LINES + 1])
    payout = payout_of(statement)
    return {
        "statement": statement,
        "org": statement.org,
        "lines": lines[:PDF_LINES],
        "more_lines": len(lines) > PDF_LINES,
        "payout": payout,
        "payout_nano": statement.payout_cents * CENT_NANO,
        "payout_words": payout_words(payout),
        "returned_nano": payout.reversed_cents * CENT_NANO if payout else 0,
    }


def statement_preview_files(org_id: uuid.UUID, month: date) -> tuple[bytes, bytes] | None:
    """Return (PDF, CSV) of a month's statement as a close would write it now, or None for none.

    The statement is written, drawn and taken back, so that the files are those of the close.
    The CSV names it `preview`, the PDF says that it is one. Raises PdfUnavailable.
    """
    with transaction.atomic():
        statement = statement_write(org_id, month, number=PREVIEW_NUMBER)
        files = None
        if statement is not None:
            context = statement_context(statement) | {"is_preview": True}
            with statement_csv(statement) as rows:
                files = render_pdf("invoices/statement.html", context), rows.read()
        transaction.set_rollback(True)
    return files


def statement_pdf(statement: Statement) -> bytes:
    """Return a statement as PDF."""
    return render_pdf("invoices/statement.html", statement_context(statement))
