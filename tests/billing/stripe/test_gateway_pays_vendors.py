"""A vendor is paid once per statement, only when Stripe knows it and the money is there."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

import pytest

from billing.stripe.gateway import (
    BalanceInsufficient,
    GatewayRefused,
    GatewayUnavailable,
    StripeGateway,
)
from billing.stripe.records_connect import Transfer
from tests.stripe_receiver import receiving
from tests.stripe_standin import KEY, Handle


@dataclass
class Vendor:
    """A vendor's account at a stand-in of its own."""

    standin: Handle
    gateway: StripeGateway
    account: str

    def onboard(self) -> None:
        """Tell Stripe everything, on its page."""
        url = self.gateway.vendor_account_link(
            self.account, refresh_url="http://127.0.0.1:1/again", return_url="http://127.0.0.1:1/"
        )
        assert self.standin.raw("POST", url.removeprefix(self.standin.url), "{}").status == 200

    def fund(self, cents: int) -> None:
        """Add to the platform's balance."""
        assert self.standin.control("POST", "balance", {"amount": cents}).status == 200

    def pay(self, statement_id: str, amount: int = 1000, *, attempt: int = 0) -> Transfer:
        """Pay a statement."""
        return self.gateway.transfer_create(
            self.account, amount=amount, statement_id=statement_id, attempt=attempt
        )


@pytest.fixture
def vendor(own_standin: Handle) -> Vendor:
    """A vendor that is not onboarded yet."""
    gateway = StripeGateway(KEY, base=own_standin.url)
    account = gateway.vendor_account_create(
        uuid.uuid4().hex, name="Studio", email="v@example.com", country="DE"
    )
    return Vendor(own_standin, gateway, account)


def test_an_account_is_made_once(vendor: Vendor) -> None:
    arguments = {"name": "Studio", "email": "v@example.com", "country": "DE"}
    vendor.standin.fault("drop_after", "/v2/core/accounts")
    with pytest.raises(GatewayUnavailable):
        vendor.gateway.vendor_account_create("org-1", **arguments)
    first = vendor.gateway.vendor_account_create("org-1", **arguments)
    assert vendor.gateway.vendor_account_create("org-1", **arguments) == first
    assert len(vendor.standin.control("GET", "objects/v2.core.account").json) == 2


def test_a_new_account_says_what_stripe_still_wants(vendor: Vendor) -> None:
    account = vendor.gateway.vendor_account_retrieve(vendor.account)
    assert (account.transfers, account.can_be_paid) == ("restricted", False)
    assert "external_account" in account.requirements
    assert account.deadline == "currently_due"
    assert account.country == "DE"


def test_onboarding_makes_the_account_payable_and_tells_by_thin_events(vendor: Vendor) -> None:
    with receiving() as receiver:
        receiver.subscribe(vendor.standin)
        vendor.onboard()
        events = [hook.event for hook in receiver.wait(2)]
    assert {event.object_id for event in events} == {vendor.account}
    assert all(event.is_thin and event.object_type == "v2.core.account" for event in events)
    account = vendor.gateway.vendor_account_retrieve(vendor.account)
    assert account.can_be_paid
    assert account.requirements == ()


def test_an_onboarding_link_is_good_once(vendor: Vendor) -> None:
    url = vendor.gateway.vendor_account_link(
        vendor.account, refresh_url="http://127.0.0.1:1/again", return_url="http://127.0.0.1:1/ok"
    ).removeprefix(vendor.standin.url)
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    pool = vendor.standin._pool
    places = [
        pool.request("POST", vendor.standin.url + url, headers=form, redirect=False).headers[
            "Location"
        ]
        for _ in range(2)
    ]
    assert places == ["http://127.0.0.1:1/ok", "http://127.0.0.1:1/again"]


def test_a_vendor_that_stripe_does_not_know_is_not_paid(vendor: Vendor) -> None:
    vendor.fund(5000)
    with pytest.raises(GatewayRefused) as failure:
        vendor.pay("s1")
    assert failure.value.code == "insufficient_capabilities_for_transfer"
    vendor.onboard()
    assert vendor.pay("s1", attempt=1).amount == 1000
    again = {"account": vendor.account, "transfers": "restricted", "requirements": ["id_number"]}
    vendor.standin.control("POST", "account", again)
    account = vendor.gateway.vendor_account_retrieve(vendor.account)
    assert (account.can_be_paid, account.requirements) == (False, ("id_number",))


def test_a_transfer_above_the_balance_moves_nothing(vendor: Vendor) -> None:
    vendor.onboard()
    vendor.fund(999)
    with pytest.raises(BalanceInsufficient):
        vendor.pay("s1")
    assert vendor.gateway.transfers_list("s1") == ()
    vendor.fund(1)
    with pytest.raises(BalanceInsufficient):
        vendor.pay("s1")  # Stripe keeps the refusal under the key
    assert vendor.pay("s1", attempt=1).amount == 1000
    assert vendor.gateway.balance_retrieve().available == 0


def test_money_that_is_still_coming_cannot_be_moved(vendor: Vendor) -> None:
    vendor.onboard()
    vendor.standin.control("POST", "settings", {"settle_delay_s": 2 * 86400})
    customer = vendor.gateway.customer_ensure("o", "O", "o@example.com")
    vendor.gateway.payment_off_session(
        customer, "pm_card_visa", amount=2000, org_id="o", topup_id="t"
    )
    assert vendor.gateway.balance_retrieve().pending == 1912
    with pytest.raises(BalanceInsufficient):
        vendor.pay("s1")
    vendor.standin.control("POST", "clock", {"offset_s": 2 * 86400 + 1})
    balance = vendor.gateway.balance_retrieve()
    assert (balance.available, balance.pending) == (1912, 0)
    assert vendor.pay("s1", attempt=1).amount == 1000


@pytest.mark.parametrize("mode", ["drop_before", "drop_after", "429"])
def test_on_doubt_the_same_attempt_pays_once(vendor: Vendor, mode: str) -> None:
    vendor.onboard()
    vendor.fund(5000)
    vendor.standin.fault(mode, "/v1/transfers")
    with pytest.raises(GatewayUnavailable):
        vendor.pay("s1")
    made = vendor.pay("s1")
    assert vendor.pay("s1") == made
    assert vendor.gateway.transfers_list("s1") == (made,)
    assert vendor.gateway.balance_retrieve().available == 4000


def test_after_the_key_was_forgotten_the_list_still_knows(vendor: Vendor) -> None:
    vendor.onboard()
    vendor.fund(5000)
    vendor.standin.fault("drop_after", "/v1/transfers")
    with pytest.raises(GatewayUnavailable):
        vendor.pay("s1")
    vendor.standin.control("POST", "clock", {"offset_s": 25 * 3600})
    (found,) = vendor.gateway.transfers_list("s1")
    assert (found.amount, found.destination, found.group) == (1000, vendor.account, "s1")


def test_a_transfer_is_taken_back_in_parts_and_never_more(vendor: Vendor) -> None:
    vendor.onboard()
    vendor.fund(1000)
    made = vendor.pay("s1")
    vendor.standin.fault("drop_after", f"/v1/transfers/{made.id}/reversals")
    with pytest.raises(GatewayUnavailable):
        vendor.gateway.transfer_reverse(made.id, amount=300, reversal_id="r1")
    first = vendor.gateway.transfer_reverse(made.id, amount=300, reversal_id="r1")
    assert first.metadata == {"mercato_id": "r1"}
    second = vendor.gateway.transfer_reverse(made.id, amount=600, reversal_id="r2")
    with pytest.raises(GatewayRefused, match="greater than the amount left"):
        vendor.gateway.transfer_reverse(made.id, amount=101, reversal_id="r3")
    assert vendor.gateway.transfer_reversals_list(made.id) == (second, first)
    assert vendor.gateway.transfer_retrieve(made.id).amount_reversed == 900
    assert vendor.gateway.balance_retrieve().available == 900


def test_a_failed_payout_is_told_with_its_account(vendor: Vendor) -> None:
    with receiving() as receiver:
        receiver.subscribe(vendor.standin)
        body = {"account": vendor.account, "amount": 700, "failed": True}
        vendor.standin.control("POST", "payout", body)
        event = receiver.wait(1)[0].event
    assert (event.type, event.account) == ("payout.failed", vendor.account)
    payout = vendor.gateway.payout_retrieve(event.object_id, event.account)
    assert (payout.status, payout.failure_code) == ("failed", "account_closed")
    with pytest.raises(GatewayRefused, match="No such payout"):
        vendor.gateway.payout_retrieve(event.object_id, "acct_other")
