"""Invoices by API: the list, one with its lines, its CSV, the running month."""

import pytest

from marketplace.core.clock import now
from marketplace.core.money import to_nano
from tests.invoicing import charge

pytestmark = pytest.mark.django_db


def test_an_invoice_is_listed_and_read(api, invoice):
    listed = api.get("/v1/billing/invoices").json()["results"]
    assert [row["number"] for row in listed] == [invoice.number]
    one = api.get(f"/v1/billing/invoices/{invoice.pk}").json()
    assert (one["status"], one["due_cents"], one["outstanding_cents"]) == ("open", 200, 200)
    assert one["lines"][0]["model"] == "atelier/sketch"
    assert one["lines"][0]["month"] == "2026-10"
    answer = api.get(f"/v1/billing/invoices/{invoice.pk}.csv")
    assert answer["Content-Type"].startswith("text/csv")


def test_the_running_month_is_previewed(api, cast):
    charge(cast.developer, cast.vendor, to_nano("0.25"), at=now())
    preview = api.get("/v1/billing/invoices/preview").json()
    assert (preview["prepaid_nano_usd"], preview["due_cents"]) == (to_nano("0.25"), 0)
    assert preview["lines"][0]["calls"] == 1


def test_nobody_elses_invoice_is_found(stranger_api, invoice):
    for end in ("", ".csv"):
        assert stranger_api.get(f"/v1/billing/invoices/{invoice.pk}{end}").status_code == 404
    assert stranger_api.get("/v1/billing/invoices").json()["results"] == []
    assert stranger_api.get("/v1/billing/invoices/nonsense").status_code == 404
