"""A developer sees each invoice, its files, the running month, and every call behind them."""

import csv
import io

import pytest

from billing.invoicing.close import close
from billing.models import CreditNote, Invoice
from billing.refunds import charge_refund
from billing.wallets import credit_limit_set
from marketplace.core.clock import now
from marketplace.core.money import to_nano
from marketplace.jobs import services
from tests.cast import report_finished
from tests.invoicing import OCTOBER, charge

pytestmark = pytest.mark.django_db


@pytest.fixture
def invoice(cast):
    credit_limit_set(org_id=cast.developer.pk, limit_nano=to_nano("10"))
    cast.charged = charge(cast.developer, cast.vendor, to_nano("3.005"))
    charge(cast.developer, cast.vendor, to_nano("0.5"), model_ref="atelier/=clip", version=2)
    close(OCTOBER)
    return Invoice.objects.get()


@pytest.fixture
def bob(client, cast):
    client.force_login(cast.bob)
    return client


def test_the_list_shows_issued_invoices_and_the_running_month(bob, cast, invoice):
    charge(cast.developer, cast.vendor, to_nano("0.25"), at=now())
    page = bob.get("/dashboard/invoices/").content.decode()
    assert invoice.number in page
    assert "$0.25" in page


def test_an_invoice_shows_its_lines_and_the_calls_of_one(bob, cast, invoice):
    page = bob.get(f"/dashboard/invoices/{invoice.pk}/").content.decode()
    assert "$2.50" in page
    assert str(cast.charged) in page
    second = invoice.lines.get(model_ref="atelier/=clip")
    page = bob.get(f"/dashboard/invoices/{invoice.pk}/?line={second.position}").content.decode()
    assert str(cast.charged) not in page


def test_each_call_of_the_running_month_is_explained(bob, cast):
    job, _ = services.job_submit(org=cast.developer, ref=cast.ref, given={"prompt": "x"})
    assert services.job_finished(report_finished(job))
    page = bob.get("/dashboard/invoices/preview/").content.decode()
    assert "1 × $0.004 = $0.004" in page
    assert f"/dashboard/jobs/{job.pk}/" in page


def test_the_preview_is_what_the_close_then_issues(cast):
    from billing.invoicing import selectors, sql

    credit_limit_set(org_id=cast.developer.pk, limit_nano=to_nano("10"))
    for version, nano in ((1, 1_234_567_891), (2, 987_654_321), (1, 15_000_000), (3, 5_000_000)):
        charge(cast.developer, cast.vendor, nano, version=version)
    preview = selectors.invoice_preview(cast.developer.pk)
    close(OCTOBER)
    invoice = Invoice.objects.get()
    assert sql.CENT == 10_000_000
    assert (preview.due_cents, preview.amount_nano) == (invoice.due_cents, invoice.amount_nano)
    names = ["model_ref", "version_id", "month", "calls", "due_cents", "postpaid_nano"]
    issued = list(invoice.lines.values_list(*names))
    assert [tuple(getattr(line, name) for name in names) for line in preview.lines] == issued


def test_the_csv_has_the_columns_of_focus_and_adds_up(bob, invoice):
    answer = bob.get(f"/dashboard/invoices/{invoice.pk}.csv")
    assert invoice.number in answer["Content-Disposition"]
    rows = list(csv.DictReader(io.StringIO(answer.content.decode())))
    assert {"BilledCost", "EffectiveCost", "ChargePeriodStart", "ServiceName", "SkuId"} <= set(
        rows[0]
    )
    assert sum(int(row["x_DueCents"]) for row in rows) == invoice.due_cents
    assert sum(to_nano(row["EffectiveCost"]) for row in rows) == invoice.amount_nano
    assert rows[1]["ChargePeriodStart"] == "2026-10-01T00:00:00Z"
    assert any(row["ServiceName"] == "'=clip" for row in rows), "no formula for a spreadsheet"


def test_an_invoice_and_a_credit_note_can_be_had_as_pdf(bob, cast, invoice):
    pytest.importorskip("weasyprint")
    answer = bob.get(f"/dashboard/invoices/{invoice.pk}.pdf")
    assert answer["Content-Type"] == "application/pdf"
    assert answer.content.startswith(b"%PDF-")
    charge_refund(source_id=cast.charged, key="k", reason="staff", amount_nano=to_nano("1"))
    note = CreditNote.objects.get()
    assert bob.get(f"/dashboard/credit-notes/{note.pk}.pdf").content.startswith(b"%PDF-")


def test_without_pango_the_page_says_what_is_missing(bob, invoice, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "weasyprint", None)
    answer = bob.get(f"/dashboard/invoices/{invoice.pk}.pdf")
    assert answer.status_code == 503
    assert "libpango" in answer.content.decode()


@pytest.mark.parametrize("end", ["/", ".pdf", ".csv"])
def test_nobody_elses_invoice_is_found(client, cast, invoice, end):
    client.force_login(cast.charlie)
    assert client.get(f"/dashboard/invoices/{invoice.pk}{end}").status_code == 404
