"""Staff refund charges in the console: in part or whole, once per form, and only if they may."""

import re

import pytest
from django.contrib.auth.models import Permission
from django.db import connection
from django.test.utils import CaptureQueriesContext

from billing.models import Charge, Refund
from billing.refunds import refundable
from billing.selectors import earnings_total
from marketplace.console.models import StaffAct
from marketplace.jobs import services
from tests import invoicing
from tests.cast import person, report_finished, staff_sign_in

pytestmark = pytest.mark.django_db
PAGE = "/console/billing/charge/"


@pytest.fixture
def charge(cast):
    job, _ = services.job_submit(org=cast.developer, ref=cast.ref, given={"prompt": "x"})
    services.job_finished(report_finished(job))
    return Charge.objects.get(pk=job.pk)


def form(client, charge, **extra):
    """Read the nonce as a browser does, and fill in the rest."""
    html = client.get(PAGE).content.decode()
    nonce = re.search(r'name="nonce" value="([^"]+)"', html)[1]
    return {
        "action": "refund",
        "_selected_action": str(charge.pk),
        "reason": "partial",
        "note": "Half of it was black.",
        "nonce": nonce,
        "amount_usd": "",
        **extra,
    }


def test_part_of_a_charge_is_given_back_with_its_reason(client, cast, charge):
    staff_sign_in(client, cast.sam)
    answer = client.post(PAGE, form(client, charge, amount_usd="0.001"), follow=True)
    assert "$0.001 of" in answer.content.decode()
    refund = Refund.objects.get()
    assert (refund.amount_nano, refund.reason, refund.by) == (1_000_000, "partial", cast.sam)
    act = StaffAct.objects.get()
    assert (act.verb, act.by) == ("charge.refund", cast.sam)
    assert "note: Half of it was black." in act.note
    assert refundable(charge) == 3_000_000
    assert earnings_total(cast.vendor.pk) == 2_400_000


def test_a_form_sent_twice_refunds_once(client, cast, charge):
    staff_sign_in(client, cast.sam)
    sent = form(client, charge, amount_usd="0.001")
    for _ in range(2):
        client.post(PAGE, sent)
    assert Refund.objects.count() == 1


@pytest.mark.parametrize("amount", ["-1", "1", "lots"])
def test_a_wrong_amount_is_refused_in_words(client, cast, charge, amount):
    staff_sign_in(client, cast.sam)
    answer = client.post(PAGE, form(client, charge, amount_usd=amount), follow=True)
    assert re.search(r"can be given back|greater than|Enter a number", answer.content.decode())
    assert not Refund.objects.exists()


def test_a_form_without_its_nonce_is_not_a_wrong_amount(client, cast, charge):
    client.force_login(cast.sam)
    answer = client.post(PAGE, form(client, charge) | {"nonce": ""}, follow=True).content.decode()
    assert "load this page anew" in answer
    assert "Amount:" not in answer
    assert not Refund.objects.exists()


def test_the_list_costs_as_many_queries_for_many_charges(client, cast, charge):
    client.force_login(cast.sam)

    def queries():
        with CaptureQueriesContext(connection) as seen:
            assert "$0.0" in client.get(PAGE).content.decode()
        return len(seen)

    queries()
    before = queries()
    for _ in range(5):
        invoicing.charge(cast.developer, cast.vendor, 4_000_000)
    assert queries() == before


def test_viewing_charges_is_not_refunding_them(client, cast, charge):
    user = person("stan", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename="view_charge"))
    staff_sign_in(client, user)
    client.post(
        PAGE,
        {"action": "refund", "_selected_action": str(charge.pk), "nonce": str(charge.pk)},
    )
    assert not Refund.objects.exists()
