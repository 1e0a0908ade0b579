"""What the mail server says of one address keeps no other mail back, and is not for ever."""

import smtplib
import uuid
from datetime import date, timedelta

import pytest
from django.core import mail
from django.utils import timezone

from billing.alerts import alerts_mail
from billing.invoicing.mails import invoices_mail
from billing.mail import REST, TRY_FOR
from billing.models import Invoice, SpendAlert
from billing.profiles import profile_save
from billing.statements.close import statement_close
from billing.statements.mail import vendors_mail
from marketplace.core.clock import now
from tests.billing.statements.conftest import at
from tests.billing.statements.market import buyer, call, moment, organisation

__all__ = ["at"]
pytestmark = pytest.mark.django_db
BAD = "a@nowhere.invalid"
TRIED: list[str] = []


class Backend:
    """A mail server that knows no such address, as smtplib tells it."""

    def __init__(self, *_args, **_options):
        pass

    def send_messages(self, messages):
        for message in messages:
            TRIED.append(message.to[0])
            if message.to[0] == BAD:
                raise smtplib.SMTPRecipientsRefused({BAD: (550, b"no such domain")})
            mail.outbox.append(message)
        return len(messages)


@pytest.fixture(autouse=True)
def _server(settings):
    TRIED.clear()
    settings.EMAIL_BACKEND = f"{__name__}.Backend"


@pytest.fixture
def later(monkeypatch):
    """Move the clock on."""

    def move(by):
        moment = now() + by
        monkeypatch.setattr(timezone, "now", lambda: moment)

    return move


@pytest.fixture
def invoices(cast):
    """Two invoices over nothing, the older one's address refused."""
    for number, org in enumerate([cast.stranger, cast.developer], 1):
        Invoice.objects.create(
            pk=uuid.uuid4(),
            org=org,
            month=date(2026, 10, 1),
            status="paid",
            number=f"M-2026-{number:06d}",
            issued_at=now() + timedelta(seconds=number),
            paid_at=now(),
            bill_to={"email": BAD if number == 1 else ""},
        )


def test_invoices_behind_it_are_mailed(invoices, cast):
    assert invoices_mail() == 1
    assert [one.to for one in mail.outbox] == [[cast.bob.email]]
    assert Invoice.objects.get(number="M-2026-000001").mailed_at is None
    assert Invoice.objects.get(number="M-2026-000002").mailed_at is not None


def test_it_rests_and_is_tried_again_and_at_last_given_up(invoices, later):
    invoices_mail()
    invoices_mail()
    assert TRIED.count(BAD) == 1
    later(REST)
    invoices_mail()
    assert TRIED.count(BAD) == 2
    assert Invoice.objects.get(number="M-2026-000001").mailed_at is None
    later(TRY_FOR)
    assert invoices_mail() == 0
    assert Invoice.objects.get(number="M-2026-000001").mailed_at is not None
    invoices_mail()
    assert TRIED.count(BAD) == 3


def test_many_bad_addresses_do_not_use_up_a_run(invoices):
    assert invoices_mail(limit=1) == 1


def test_statements_behind_it_are_mailed(at):
    vendors = [organisation("atelier"), organisation("maison")]
    payer = buyer("bob", prepaid=10**12)
    for vendor in vendors:
        call(payer, 10**10, [(vendor, 8000)], moment("2026-11-20"))
    profile_save(org=vendors[0], email=BAD)
    profile_save(org=vendors[1], email="good@example.org")
    at("2026-12-04")
    for vendor in vendors:
        statement_close(org_id=vendor.pk, month=date(2026, 11, 1))
    assert vendors_mail() == 1
    assert [one.to for one in mail.outbox] == [["good@example.org"]]


def test_alerts_behind_it_are_mailed(cast):
    profile_save(org=cast.developer, email=BAD)
    for org in (cast.stranger, cast.developer):
        SpendAlert.objects.create(
            org=org, subject_id=org.pk, subject="x", month=date(2026, 11, 1),
            percent=50, spent_nano=5, limit_nano=10,
        )  # fmt: skip
    assert alerts_mail() == 1
    assert [one.to for one in mail.outbox] == [[cast.charlie.email]]
