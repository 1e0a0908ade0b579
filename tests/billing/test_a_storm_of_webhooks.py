"""Real webhooks over HTTP, lost, doubled and out of order, while everything else is asked too."""

import random
import time

import pytest

from billing import recharge, returns, topups
from billing.fees import fees_poll
from billing.models import Dispute, StripeEvent, TopUp, TopUpReturn
from billing.selectors import balance_of
from marketplace.core.clock import now
from marketplace.core.money import to_nano
from tests.billing.payin import SECRET, cash_nano, pay, process, save_card
from tests.cast import make_cast

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def stormy(settings, own_standin, live_server, request):
    """A stand-in of its own that sends its webhooks here, badly."""
    settings.STRIPE_API_KEY, settings.STRIPE_API_BASE = "sk_test_x", own_standin.url
    settings.STRIPE_WEBHOOK_SECRET = [SECRET]
    target = {"url": f"{live_server.url}/stripe/webhook", "secret": SECRET}
    assert own_standin.control("POST", "webhooks", target).status == 200
    seed = request.param
    for number, mode in enumerate(("duplicate", "reorder", "drop_after", "drop_before")):
        own_standin.fault(
            mode, match="webhook:", times=6, rate=0.3, seed=seed + number, delay_s=0.3
        )
    own_standin.fault("drop_after", match="/v1/", times=4, rate=0.1, seed=seed)
    own_standin.fault("500_stored", match="/v1/", times=3, rate=0.1, seed=seed + 1)
    own_standin.fault("429", match="/v1/", times=3, rate=0.1, seed=seed + 2)
    yield own_standin, random.Random(seed)
    own_standin.control("DELETE", "faults")
    own_standin.control("DELETE", "state")


def patiently(call):
    """Repeat what a person would repeat."""
    for _ in range(12):
        try:
            return call()
        except Exception as error:
            last = error
    raise last


def settle_all(standin, rng):
    """Let every part run in a random order until nothing is left to do."""
    deadline = time.monotonic() + 60
    quiet = 0
    parts = [process, recharge.recharges_run, returns.returns_send, topups.top_ups_poll]
    while quiet < 2:
        assert time.monotonic() < deadline, standin.control("GET", "webhooks").json
        rng.shuffle(parts)
        TopUpReturn.objects.filter(delivery="pending").update(next_attempt_at=now())
        for part in parts:
            part()
        waits = standin.control("GET", "webhooks").json["pending"]
        waits = waits or StripeEvent.objects.filter(delivery="pending").exists()
        waits = waits or TopUp.objects.filter(state="pending").exists()
        waits = waits or TopUpReturn.objects.filter(state="pending").exists()
        quiet = 0 if waits else quiet + 1
        time.sleep(0.05)


@pytest.mark.parametrize(
    "stormy",
    [1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 8))],
    indirect=True,
)
def test_all_comes_out_right(stormy):
    standin, rng = stormy
    cast = make_cast()
    org = cast.developer
    cash = cash_nano()
    ids = []
    for number, card in enumerate(("pm_card_visa", "pm_card_createDispute", "pm_card_visa")):
        top_up, url = patiently(
            lambda n=number: topups.top_up_begin(
                org=org, user=cast.bob, cents=1000 * (n + 1), key=str(n)
            )
        )
        ids.append(top_up.pk)
        assert pay(standin, url, card).status == 200
    settle_all(standin, rng)
    # $1 of the cast's + $10 + $20 disputed + $30
    assert balance_of(org.pk).prepaid_nano == to_nano("41")
    dispute = Dispute.objects.get()
    assert dispute.cents == 2000
    returns.return_begin(top_up_id=ids[2], cents=2500, by=cast.sam, key="r")
    closing = {"dispute": dispute.pk, "status": "won"}
    assert standin.control("POST", "dispute", closing).status == 200
    settle_all(standin, rng)
    assert balance_of(org.pk).prepaid_nano == to_nano("36")
    patiently(lambda: save_card(standin, org.pk))
    patiently(lambda: recharge.card_refresh(topups.gateway_required(), org.pk))
    recharge.recharge_set(org=org, below_nano=to_nano("40"), cents=1000)
    settle_all(standin, rng)
    assert balance_of(org.pk).prepaid_nano == to_nano("46")
    while fees_poll():
        pass
    # 2.9 % + $0.30 of four payments, and $15 for the dispute
    fees = sum(to_nano(cost) for cost in ("0.59", "0.88", "1.17", "0.59", "15"))
    assert cash_nano() - cash == to_nano("45") - fees
    assert sum(row["net"] for row in standin.control("GET", "objects/balance_transaction").json) \
        * topups.NANO_PER_CENT == to_nano("45") - fees  # fmt: skip
