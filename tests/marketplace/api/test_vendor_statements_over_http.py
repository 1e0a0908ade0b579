"""A vendor's statements over the API; no other organisation's key reads them."""

import csv
import io
from datetime import UTC, date, datetime

import pytest
from django.utils import timezone
from rest_framework.test import APIClient

from billing.statements.close import statement_close
from marketplace.accounts import services as accounts
from tests.billing.statements.market import buyer, call, payout_account

USD = 10**9


def client_of(org, scopes=("read",)):
    _, secret = accounts.api_key_create(org=org, name="test", scopes=list(scopes))
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {secret}")
    return client


@pytest.fixture
def vendor_api(cast):
    return client_of(cast.vendor)


@pytest.fixture
def statement(cast, vendor_api, stranger_api, api, monkeypatch):
    payout_account(cast.vendor)
    payer = buyer("fred", prepaid=100 * USD, country="FR")
    call(payer, 10 * USD + 1, [(cast.vendor, 8000)], datetime(2026, 11, 20, tzinfo=UTC))
    monkeypatch.setattr(timezone, "now", lambda: datetime(2026, 12, 4, tzinfo=UTC))
    return statement_close(org_id=cast.vendor.pk, month=date(2026, 11, 1))


def test_statements_are_listed_and_read(vendor_api, statement):
    listed = vendor_api.get("/v1/vendor/statements").json()["results"]
    assert [row["number"] for row in listed] == ["S202611-000001"]
    one = vendor_api.get(f"/v1/vendor/statements/{statement.pk}").json()
    assert (one["earned_nano_usd"], one["payout_cents"]) == (8 * USD, 800)
    assert one["payout"]["state"] == "intent"
    assert [(row["payer_country"], row["calls"]) for row in one["lines"]] == [("FR", 1)]


def test_the_csv_is_the_same_as_on_the_page(vendor_api, statement):
    answer = vendor_api.get(f"/v1/vendor/statements/{statement.pk}.csv")
    (row,) = csv.DictReader(io.StringIO(b"".join(answer).decode()))
    assert (row["gross_charge_nano_usd"], row["share_bps"]) == (str(10 * USD + 1), "8000")
    assert row["amount_nano_usd"] == str(8 * USD)


def test_the_preview_is_of_the_running_month(cast, vendor_api):
    payer = buyer("pat", limit=100 * USD)
    call(payer, 10 * USD, [(cast.vendor, 8000)], timezone.now())
    preview = vendor_api.get("/v1/vendor/statements/preview").json()
    assert (preview["earned_nano_usd"], preview["pending_nano_usd"]) == (0, 8 * USD)
    assert "not issued yet" in preview["pending"][0]["reason"]


@pytest.mark.parametrize("tail", ["", ".csv"])
def test_nobody_elses_key_reads_a_statement(api, stranger_api, vendor_api, statement, tail):
    path = f"/v1/vendor/statements/{statement.pk}{tail}"
    assert api.get(path).status_code == stranger_api.get(path).status_code == 404
    assert api.get("/v1/vendor/statements").json()["results"] == []
    assert APIClient().get(path).status_code == 401
    assert vendor_api.get(f"/v1/vendor/statements/x{tail}").status_code == 404


def test_a_key_that_may_only_run_reads_no_statement(cast, statement):
    runner = client_of(cast.vendor, ["run"])
    assert runner.get("/v1/vendor/statements").status_code in (401, 403)
