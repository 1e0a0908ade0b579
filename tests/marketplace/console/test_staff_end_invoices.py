"""Staff approve invoices, mark payments by transfer, give up, and see where money is."""

import pytest

from tests.cast import staff_sign_in

pytestmark = pytest.mark.django_db


def test_staff_approve_mark_paid_and_give_up(client, cast, invoice):
    staff_sign_in(client, cast.sam)
    url = "/console/billing/invoice/"

    def act(action):
        data = {"action": action, "_selected_action": [str(invoice.pk)]}
        return client.post(url, data, follow=True).content.decode()

    assert "is issued already" in act("approve")
    assert "is paid now" in act("mark_paid")
    assert "had ended before" in act("mark_uncollectible")
    assert "is not given up" in act("release_shares")
    assert "is not given up" in act("take_shares_back")
    assert invoice.number in client.get(url).content.decode()
    assert "collected" in client.get("/console/ledger/totals/").content.decode()


@pytest.mark.parametrize("action", ["release_shares", "take_shares_back"])
def test_staff_decide_of_the_shares_in_an_invoice_that_nobody_pays(client, cast, invoice, action):
    staff_sign_in(client, cast.sam)

    def act(action):
        data = {"action": action, "_selected_action": [str(invoice.pk)]}
        return client.post("/console/billing/invoice/", data, follow=True).content.decode()

    act("mark_uncollectible")
    assert "is decided" in act(action)
    assert "had been decided so before" in act(action)
