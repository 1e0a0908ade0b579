"""A close that is killed at any statement and run again issues what one run would have."""

import threading
import uuid

import pytest
from django.db import connection, connections

from billing.invoicing import close as closing
from billing.models import Invoice, InvoiceLine, NumberSequence, Transfer
from billing.refunds import charge_refund
from billing.wallets import credit_limit_set
from marketplace.core.money import to_nano
from tests.cast import make_cast
from tests.invoicing import OCTOBER, charge

pytestmark = pytest.mark.django_db(transaction=True)


class Killed(BaseException):
    """Stands for a process that ends here."""


@pytest.fixture
def usage(monkeypatch):
    """Two organisations in two chunks, one with a debt and a refund."""
    monkeypatch.setattr(closing, "CHUNK", 1)
    cast = make_cast()
    for org in (cast.developer, cast.stranger):
        credit_limit_set(org_id=org.pk, limit_nano=to_nano("10"))
        for version in (1, 2):
            source = charge(org, cast.vendor, to_nano("1.2345678"), version=version)
    charge_refund(source_id=source, key="k", reason="staff", amount_nano=to_nano("0.01"))
    return cast


def issued():
    """Return all that a close decides."""
    rows = Invoice.objects.order_by("org__slug").values_list(
        "org__slug", "status", "due_cents", "postpaid_nano", "prepaid_nano"
    )
    lines = InvoiceLine.objects.order_by("invoice__org__slug", "position").values_list(
        "invoice__org__slug", "version_id", "calls", "due_cents"
    )
    rounded = Transfer.objects.filter(kind="rounding").values_list("amount_nano", flat=True)
    numbers = sorted(Invoice.objects.values_list("number", flat=True))
    return list(rows), list(lines), sorted(rounded), numbers


def close_until(step):
    """Close and die before the given statement. Returns whether it got that far."""
    seen = 0

    def die(execute, *args):
        nonlocal seen
        seen += 1
        if seen == step:
            raise Killed
        return execute(*args)

    try:
        with connection.execute_wrapper(die):
            closing.close(OCTOBER)
    except Killed:
        return True
    return False


def test_killed_at_each_statement_in_turn_it_still_issues_the_same(usage):
    kills, step, done = 0, 1, 0
    while close_until(step):
        kills += 1
        # A chunk that was committed is not done again: begin anew with the next one.
        step, before = step + 1, done
        done = Invoice.objects.exclude(status="draft").count()
        step = step if done == before else 1
        assert kills < 500
    assert kills > 30, "the steps were not killed one by one"
    rows, lines, rounded, numbers = issued()
    assert [row[:3] for row in rows] == [("builders", "open", 147), ("charlie", "open", 246)]
    assert [line[2:] for line in lines] == [(1, 24), (1, 123), (1, 124), (1, 122)]
    assert sum(line[3] for line in lines) == 147 + 246
    assert len(rounded) == 2
    assert [number[-6:] for number in numbers] == ["000001", "000002"]
    assert NumberSequence.objects.get().last == 2


def test_two_at_once_issue_each_invoice_once(usage):
    start, failures = threading.Barrier(2), []

    def run():
        try:
            start.wait(10)
            closing.close(OCTOBER)
        except Exception as error:
            failures.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures
    assert Invoice.objects.filter(status="open").count() == 2
    assert NumberSequence.objects.get().last == 2


def test_a_refund_during_the_close_is_on_the_invoice_or_on_a_credit_note(usage):
    sources = [charge(usage.developer, usage.vendor, to_nano("0.1"), version=3) for _ in range(8)]
    start, failures = threading.Barrier(2), []

    def refund():
        try:
            start.wait(10)
            for source in sources:
                charge_refund(source_id=source, key=str(uuid.uuid4()), reason="staff")
        except Exception as error:
            failures.append(error)
        finally:
            connections.close_all()

    thread = threading.Thread(target=refund)
    thread.start()
    start.wait(10)
    closing.close(OCTOBER)
    thread.join(60)
    assert not failures  # and the audit after the test finds every cent
