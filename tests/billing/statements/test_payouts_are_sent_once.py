"""Payouts against the stand-in and its faults: never twice, never lost, never released."""

import uuid
from datetime import date, timedelta

import pytest

from billing import connect, payouts
from billing.customers import PaymentsAway
from billing.models import (
    Incident,
    Payout,
    PayoutAccount,
    PayoutState,
    Statement,
    StripeEvent,
    Transfer,
)
from billing.statements.close import statement_close
from billing.statements.selectors import payout_words, statements_of
from billing.stripe.gateway import gateway_from_settings
from billing.stripe.inbox import HANDLERS, events_process
from billing.stripe.records_connect import VendorAccount
from marketplace.accounts.services import organisation_restore, organisation_suspend
from marketplace.core.clock import now
from marketplace.core.errors import InvalidInput, WrongState
from tests.billing.statements.dying import Killed, killed_at
from tests.billing.statements.market import buyer, call, moment, organisation
from tests.stripe_standin import Handle

pytestmark = pytest.mark.django_db
NOVEMBER, DECEMBER = date(2026, 11, 1), date(2026, 12, 1)
USD = 10**9


@pytest.fixture(autouse=True)
def _configured(settings, standin: Handle):
    settings.STRIPE_API_KEY, settings.STRIPE_API_BASE = "sk_test_x", standin.url


@pytest.fixture
def vendor(at, standin):
    """A vendor who filled in Stripe's page, with 8 dollars to be paid out."""
    org = organisation(f"v{uuid.uuid4().hex[:8]}", "FR")
    onboard(org, standin)
    connect.minimum_set(org=org, cents=100)
    call(buyer("bob", prepaid=100 * USD), 10 * USD, [(org, 8000)], moment("2026-11-20"))
    at("2026-12-04")
    statement_close(org_id=org.pk, month=NOVEMBER)
    return org


def onboard(org, standin):
    url = connect.onboarding_begin(org=org, country="FR", page_url="https://x.example/p/")
    link = url.rpartition("/")[2]
    assert standin.control("POST", f"onboard/{link}", {}).status == 200
    assert connect.account_refresh(org_id=org.pk).enabled


def fund(standin, cents=10_000):
    standin.control("POST", "balance", {"amount": cents})


def drain(standin):
    gateway = gateway_from_settings()
    standin.control("POST", "balance", {"amount": 1})
    left = gateway.balance_retrieve().available
    if left > 0:
        account = connect_account(standin)
        gateway.transfer_create(account, amount=left, statement_id=str(uuid.uuid4()))


def connect_account(standin):
    org = organisation(f"d{uuid.uuid4().hex[:8]}", "FR")
    onboard(org, standin)
    return PayoutAccount.objects.get(org=org).stripe_account_id


def sent_to(org):
    """What Stripe has sent for the vendor's statements, in cents."""
    gateway = gateway_from_settings()
    rows = Statement.objects.filter(org=org).values_list("pk", flat=True)
    return [row.amount for pk in rows for row in gateway.transfers_list(str(pk))]


def again():
    Payout.objects.update(next_attempt_at=now())
    return payouts.payouts_send()


def test_a_payout_is_sent_and_booked(vendor, standin):
    fund(standin)
    assert payouts.payouts_send() == 1
    payout = Payout.objects.get()
    assert (payout.state, payout.delivery) == ("sent", "delivered")
    assert payout.statement.status == "paid"
    row = Transfer.objects.get(kind="payout")
    assert (row.amount_nano, row.source_id) == (8 * USD, payout.pk)
    assert sent_to(vendor) == [800]
    assert payouts.payouts_send() == 0


@pytest.mark.parametrize("mode", ["drop_before", "drop_after", "429", "500_stored"])
@pytest.mark.parametrize("times", [1, 2])
def test_a_fault_of_stripe_neither_doubles_nor_loses(vendor, standin, mode, times):
    fund(standin)
    standin.fault(mode, match="/v1/transfers", times=times)
    assert payouts.payouts_send() == 0
    assert Payout.objects.get().state == "intent"
    for _ in range(4):
        again()
    assert Payout.objects.get().state == "sent"
    assert sent_to(vendor) == [800]
    assert Transfer.objects.filter(kind="payout").count() == 1


def test_a_sender_that_dies_after_stripe_took_it_is_followed_by_one_that_looks(
    vendor, standin, monkeypatch
):
    fund(standin)

    def die(*_args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(payouts, "payout_record", die)
        with pytest.raises(KeyboardInterrupt):
            payouts.payouts_send()
    # Long after Stripe has forgotten the key, and under another one:
    Payout.objects.update(key_attempt=7)
    assert again() == 1
    assert sent_to(vendor) == [800]


def test_killed_at_every_query_it_is_sent_and_booked_once(vendor, standin):
    fund(standin)
    for step in range(1, 100):
        Payout.objects.update(next_attempt_at=now())
        with killed_at(step) as seen:
            try:
                payouts.payouts_send()
            except Killed:
                continue
        if len(seen) < step:
            break
    assert step > 5
    assert Payout.objects.get().state == "sent"
    assert sent_to(vendor) == [800]
    assert Transfer.objects.filter(kind="payout").count() == 1


def test_while_the_balance_is_short_it_waits_and_after_a_day_staff_know(vendor, standin, at):
    drain(standin)
    assert payouts.payouts_send() == 0
    assert "less than $8.00" in Payout.objects.get().last_error
    assert not Incident.objects.exists()
    at("2026-12-06")
    again()
    assert Incident.objects.get().rule == "a payout waits for more than a day"
    fund(standin)
    assert again() == 1
    assert sent_to(vendor) == [800]


def test_a_stored_refusal_for_lack_of_money_does_not_block_it(vendor, standin, monkeypatch):
    drain(standin)
    from billing.stripe.gateway import StripeGateway
    from billing.stripe.records_connect import Balance

    with monkeypatch.context() as patch:  # the balance looks full, and is gone a moment later
        patch.setattr(StripeGateway, "balance_retrieve", lambda _: Balance("usd", 10**6, 0))
        assert payouts.payouts_send() == 0
    assert Payout.objects.get().key_attempt == 1
    fund(standin)
    assert again() == 1
    assert sent_to(vendor) == [800]


def test_an_account_that_lost_its_permission_is_not_paid(vendor, standin):
    fund(standin)
    account = PayoutAccount.objects.get(org=vendor).stripe_account_id
    standin.control("POST", "account", {"account": account, "transfers": "restricted"})
    assert payouts.payouts_send() == 0
    assert "cannot receive" in Payout.objects.get().last_error
    assert sent_to(vendor) == []
    standin.control("POST", "account", {"account": account, "transfers": "active"})
    assert again() == 1


def test_a_large_payout_is_sent_once_staff_approve(vendor, standin):
    fund(standin)
    Payout.objects.update(needs_approval=True)
    assert payouts.payouts_send() == 0
    boss = vendor.members.get()
    payouts.payout_approve(statement_id=Payout.objects.get().pk, by=boss)
    with pytest.raises(WrongState):
        payouts.payout_approve(statement_id=Payout.objects.get().pk, by=boss)
    assert payouts.payouts_send() == 1


def test_a_suspended_vendor_is_not_paid_until_restored_and_released(vendor, standin):
    fund(standin)
    organisation_suspend(org=vendor)
    assert payouts.payouts_send() == 0
    payout = Payout.objects.get()
    assert payout.needs_approval
    assert "suspended" in payout.last_error
    assert payout_words(payout) == "Waits: your organisation is suspended"
    boss = vendor.members.get()
    with pytest.raises(WrongState, match="suspended"):
        payouts.payout_approve(statement_id=payout.pk, by=boss)
    organisation_restore(org=vendor)
    assert again() == 0
    assert "while your organisation was suspended" in payout_words(Payout.objects.get())
    assert sent_to(vendor) == []
    payouts.payout_approve(statement_id=payout.pk, by=boss)
    assert again() == 1
    assert sent_to(vendor) == [800]


def test_a_payout_that_stripe_has_is_booked_though_its_vendor_is_suspended(vendor, standin):
    fund(standin)
    standin.fault("drop_after", match="/v1/transfers", times=1)
    assert payouts.payouts_send() == 0
    organisation_suspend(org=vendor)
    assert again() == 1
    assert sent_to(vendor) == [800]


def test_without_stripe_payouts_wait(vendor, settings):
    settings.STRIPE_API_KEY = ""
    assert payouts.payouts_send() == 0
    assert Payout.objects.get().attempts == 0


def test_staff_take_part_of_a_payout_back_once(vendor, standin, at):
    fund(standin)
    payouts.payouts_send()
    pk = Payout.objects.get().pk
    standin.fault("drop_after", match=f"/v1/transfers/{Payout.objects.get().stripe_transfer_id}")
    with pytest.raises(PaymentsAway):
        payouts.payout_reverse(statement_id=pk, cents=300, key="a")
    for _ in range(2):
        payouts.payout_reverse(statement_id=pk, cents=300, key="a")
    payout = Payout.objects.get()
    assert (payout.state, payout.reversed_cents) == ("sent", 300)
    with pytest.raises(InvalidInput, match=r"\$5.00 of this payout"):
        payouts.payout_reverse(statement_id=pk, cents=501, key="b")
    assert payouts.payout_reverse(statement_id=pk, cents=500, key="c")
    assert Payout.objects.get().state == PayoutState.RETURNED
    at("2027-01-04")
    statement = statement_close(org_id=vendor.pk, month=DECEMBER)
    assert (statement.shares_nano, statement.returned_nano) == (0, 8 * USD)
    assert statement.payout_cents == 800
    shown = statements_of(vendor).get(pk=statement.pk)
    assert (shown.shares_nano, shown.returned_nano) == (0, 8 * USD)


def test_an_event_alone_is_enough_to_know(vendor, standin):
    fund(standin)
    payout = Payout.objects.get()
    gateway = gateway_from_settings()
    account = PayoutAccount.objects.get(org=vendor).stripe_account_id
    made = gateway.transfer_create(account, amount=800, statement_id=str(payout.pk))
    gateway.transfer_reverse(made.id, amount=200, reversal_id="by-hand")
    event = StripeEvent(id="evt_1", type="transfer.reversed", object_id=made.id, payload={})
    for _ in range(2):
        payouts._heard_of_transfer(event, gateway)
    payout.refresh_from_db()
    assert (payout.state, payout.reversed_cents) == ("sent", 200)
    assert payouts.payouts_send() == 0


def test_a_transfer_that_is_not_ours_is_left_alone(vendor, standin):
    fund(standin)
    gateway = gateway_from_settings()
    account = PayoutAccount.objects.get(org=vendor).stripe_account_id
    made = gateway.transfer_create(account, amount=5, statement_id=str(Payout.objects.get().pk))
    event = StripeEvent(id="evt_1", type="transfer.created", object_id=made.id, payload={})
    payouts._heard_of_transfer(event, gateway)
    assert Payout.objects.get().state == "intent"
    assert Incident.objects.get().rule == "a payout is not what Stripe has"


def test_a_refused_bank_payout_is_shown_until_one_arrives(vendor, standin):
    gateway = gateway_from_settings()
    account = PayoutAccount.objects.get(org=vendor).stripe_account_id
    for failed, said in ((True, "bank account has been closed"), (False, "")):
        made = standin.control(
            "POST", "payout", {"account": account, "amount": 100, "failed": failed}
        ).json
        event = StripeEvent(
            id=made["id"], type="payout.failed", object_id=made["id"], account_id=account,
            payload={},
        )  # fmt: skip
        connect._bank_answered(event, gateway)
        problem = PayoutAccount.objects.get(org=vendor).problem
        assert said in problem
        assert bool(problem) is failed


@pytest.mark.parametrize("mode", ["drop_before", "drop_after", "500_stored"])
def test_a_lost_answer_opens_one_account(standin, at, mode):
    org = organisation(f"v{uuid.uuid4().hex[:8]}", "FR")
    standin.fault(mode, match="/v2/core/accounts")
    with pytest.raises(PaymentsAway):
        connect.onboarding_begin(org=org, country="FR", page_url="https://x.example/p/")
    onboard(org, standin)
    made = standin.control("GET", "objects/v2.core.account").json
    mine = [row["id"] for row in made if row["metadata"].get("org_id") == str(org.pk)]
    assert mine == [PayoutAccount.objects.get(org=org).stripe_account_id]
    assert PayoutAccount.objects.get(org=org).requirements == []


def test_a_country_is_needed_and_named(standin, at):
    org = organisation(f"v{uuid.uuid4().hex[:8]}")
    with pytest.raises(InvalidInput, match="which country"):
        connect.onboarding_begin(org=org, country="", page_url="https://x.example/p/")


def test_requirements_are_said_in_words(standin, at):
    org = organisation(f"v{uuid.uuid4().hex[:8]}", "FR")
    connect.onboarding_begin(org=org, country="FR", page_url="https://x.example/p/")
    account = connect.account_refresh(org_id=org.pk)
    assert connect.requirements_words(account) == [
        "a bank account to pay to", "who you are", "agreement to Stripe's terms",
    ]  # fmt: skip
    assert connect.requirement_words("identity.individual.relationship.is_owner") == "who you are"
    assert connect.requirement_words("some_new.thing_asked") == "thing asked"


def test_an_event_of_the_account_is_enough_to_enable_it(standin, at):
    org = organisation(f"v{uuid.uuid4().hex[:8]}", "FR")
    url = connect.onboarding_begin(org=org, country="FR", page_url="https://x.example/p/")
    standin.control("POST", f"onboard/{url.rpartition('/')[2]}", {})
    account = PayoutAccount.objects.get(org=org)
    assert not account.enabled
    event = StripeEvent(id="e", type="x", object_id=account.stripe_account_id, payload={})
    connect._account_changed(event, gateway_from_settings())
    account.refresh_from_db()
    assert account.enabled
    assert now() - account.seen_at < timedelta(minutes=1)


def test_after_an_account_was_closed_another_is_opened_and_paid(vendor, standin):
    fund(standin)
    old = PayoutAccount.objects.get(org=vendor).stripe_account_id
    gone = VendorAccount(old, "restricted", "", (), "", "FR", closed=True)
    connect._store(vendor.pk, gone)
    assert payouts.payouts_send() == 0
    account = PayoutAccount.objects.get(org=vendor)
    assert (account.enabled, account.stripe_account_id) == (False, "")
    assert "was closed" in account.problem
    onboard(vendor, standin)
    account.refresh_from_db()
    assert account.stripe_account_id != old
    assert account.problem == ""
    assert again() == 1
    assert sent_to(vendor) == [800]


def test_two_senders_at_once_send_once(vendor, standin):
    fund(standin)
    first = Payout.claim(1, needs_approval=False)[0]
    Payout.objects.update(next_attempt_at=now())  # its lease has run out, and it lives
    assert payouts.payouts_send() == 1
    assert payouts._try(gateway_from_settings(), first) is False
    assert sent_to(vendor) == [800]


def test_what_stripe_tells_reaches_its_handler(vendor, standin):
    account = PayoutAccount.objects.get(org=vendor).stripe_account_id
    made = standin.control(
        "POST", "payout", {"account": account, "amount": 100, "failed": True}
    ).json
    StripeEvent.objects.create(
        id="evt_bank", type="payout.failed", object_id=made["id"], account_id=account, payload={}
    )
    assert events_process() == 1
    assert "has been closed" in PayoutAccount.objects.get(org=vendor).problem
    assert {"transfer.created", "transfer.reversed", "payout.paid"} <= set(HANDLERS)
