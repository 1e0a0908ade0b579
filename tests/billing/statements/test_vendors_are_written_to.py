"""A vendor gets one mail per statement, per payout, and per payout that the bank refused."""

from datetime import date

import pytest
from django.core import mail

from billing.models import PayoutAccount
from billing.payouts import payout_record
from billing.statements.close import statement_close
from billing.statements.mail import vendors_mail
from billing.stripe.records_connect import Transfer
from tests.billing.statements.market import buyer, call, moment, organisation, payout_account

pytestmark = pytest.mark.django_db
USD = 10**9


@pytest.fixture
def statement(at):
    org = organisation("atelier")
    payout_account(org)
    call(buyer("bob", prepaid=100 * USD), 10 * USD, [(org, 8000)], moment("2026-11-20"))
    at("2026-12-04")
    return statement_close(org_id=org.pk, month=date(2026, 11, 1))


def test_each_thing_is_told_once(statement):
    assert vendors_mail() == 1
    assert vendors_mail() == 0
    (told,) = mail.outbox
    assert told.to == ["atelier@example.org"]
    assert "statement for November 2026" in told.subject
    assert "Earned        $8.00" in told.body
    assert f"/vendor/statements/{statement.pk}/" in told.body
    payout_record(statement.pk, Transfer("tr_1", 800, 0, "usd", "acct", str(statement.pk), 0))
    PayoutAccount.objects.update(problem="Your bank refused a payout: closed.")
    assert vendors_mail() == 2
    assert "$8.00 for statement S202611-000001" in mail.outbox[1].body
    assert "Your bank refused a payout: closed." in mail.outbox[2].body
    assert vendors_mail() == 0


def test_a_mail_that_fails_is_sent_later(statement, settings, monkeypatch):
    def fail(*_args, **_options):
        raise ConnectionRefusedError

    with monkeypatch.context() as patch:
        patch.setattr("billing.statements.mail.send_mail", fail)
        assert vendors_mail() == 0
    assert vendors_mail() == 1
