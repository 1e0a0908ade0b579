"""Previews, files and payment pages are counted by organisation, whichever key or person asks."""

import pytest
from django.test import Client

from billing.invoicing import documents
from billing.invoicing.close import close
from billing.models import Invoice
from billing.wallets import credit_limit_set
from marketplace.accounts.services import api_key_create
from marketplace.core.money import to_nano
from tests.invoicing import OCTOBER, charge

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _few(settings):
    settings.HEAVY_PER_SECOND, settings.HEAVY_BURST = 0.001, 2
    settings.STORAGES = {
        **settings.STORAGES,
        "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
    }


@pytest.fixture
def invoice(cast):
    credit_limit_set(org_id=cast.developer.pk, limit_nano=to_nano("10"))
    for version in (1, 2, 3):
        charge(cast.developer, cast.vendor, to_nano("1"), version=version)
    close(OCTOBER)
    return Invoice.objects.get()


@pytest.mark.parametrize(
    "path",
    ["billing/invoices/preview", "billing/invoices/x.csv", "vendor/statements/preview",
     "vendor/statements/x.csv"],
)  # fmt: skip
def test_too_many_by_api_are_told_when_to_come_back(api, stranger_api, path):
    codes = [api.get(f"/v1/{path}").status_code for _ in range(3)]
    assert 429 not in codes[:2]
    assert codes[2] == 429
    assert int(api.get(f"/v1/{path}")["Retry-After"]) >= 1
    assert api.get("/v1/jobs").status_code == 200
    assert stranger_api.get(f"/v1/{path}").status_code != 429


def test_another_key_does_not_help(api, cast):
    for _ in range(2):
        api.get("/v1/billing/invoices/preview")
    _, secret = api_key_create(org=cast.developer, name="2", scopes=["billing"])
    api.credentials(HTTP_AUTHORIZATION=f"Bearer {secret}")
    assert api.get("/v1/billing/invoices/preview").status_code == 429
    body = {"amount_cents": 2500}
    assert api.post("/v1/billing/top-ups", body, format="json").status_code == 429


@pytest.mark.parametrize(
    "path",
    ["invoices/", "invoices/preview/", "invoices/preview.csv", "billing/recharge/"],
)
def test_pages_are_counted_too(cast, path):
    client = Client()
    client.force_login(cast.bob)
    codes = [client.get(f"/dashboard/{path}").status_code for _ in range(3)]
    assert codes == [200, 200, 429]
    assert client.get("/dashboard/").status_code == 200


def test_a_page_at_stripe_is_not_opened_over_and_over(cast):
    client = Client()
    client.force_login(cast.bob)
    for path in ("card", "top-ups"):
        for _ in range(3):
            answer = client.post(f"/dashboard/billing/{path}/", {"amount": "10"})
        assert answer.status_code == 429


def test_a_long_invoice_is_drawn_in_part_and_says_so(invoice, monkeypatch):
    drawn = {}
    monkeypatch.setattr(documents, "PDF_LINES", 2)
    monkeypatch.setattr(documents, "render_pdf", lambda name, context: drawn.update(context) or b"")
    documents.invoice_pdf(invoice)
    assert (len(drawn["lines"]), drawn["more_lines"]) == (2, 1)
    from django.template.loader import render_to_string

    assert "1 more line:" in render_to_string("invoices/invoice.html", drawn)
