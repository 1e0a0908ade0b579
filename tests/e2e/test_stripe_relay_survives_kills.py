"""Stripe loses answers, refuses and fails, and the relay is killed: each batch counts once."""

import random
import time
from collections import defaultdict
from typing import Any

import pytest

from tests.e2e.world import World
from tests.stripe_standin import Handle

SEED = 20261121
KILLS = 5
FAULTS = (
    {"mode": "drop_after", "rate": 0.15},
    {"mode": "drop_before", "rate": 0.1},
    {"mode": "429", "rate": 0.1, "retry_after": 1},
    {"mode": "500_stored", "rate": 0.1},
)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_stripe_hears_of_every_micro_dollar_once(market: World):
    standin = market.standin()
    chance = random.Random(SEED)
    for number, fault in enumerate(FAULTS):
        standin.fault(times=None, seed=SEED + number, **fault)
    try:
        for _ in range(KILLS):
            for _ in range(8):
                market.submit(num_images=chance.randint(1, 3))
                time.sleep(chance.uniform(0.05, 0.3))
            hurry(market)
            time.sleep(chance.uniform(0.2, 1.5))
            market.kill("worker-control")
            market.start("worker-control")
            market.until("the control worker settles again", lambda: live(market) == 0, 60)
        until_told(market)
    finally:
        fired = standin.control("GET", "faults").json
        standin.control("DELETE", "faults")
    print(f"seed {SEED}: {KILLS} kills, faults fired", [rule["fired"] for rule in fired])
    print("duplicates refused:", standin.state()["duplicates_rejected"])
    compare(market, standin)


def hurry(market: World) -> None:
    """Let every wait of the outbox be over: as if the hours of its backoff had passed."""
    market.sql("UPDATE billing_meterbatch SET next_attempt_at = now() WHERE delivery = 'pending'")


def live(market: World) -> int:
    ((count,),) = market.sql("SELECT count(*) FROM jobs_job WHERE status IN ('queued', 'running')")
    return int(count)


def until_told(market: World) -> None:
    """Wait until every charge is sealed and every batch accepted."""

    def told() -> bool:
        hurry(market)
        time.sleep(0.5)
        ((unsealed,),) = market.sql(
            "SELECT count(*) FROM billing_charge WHERE (granted_nano + prepaid_nano > 0 "
            "AND prepaid_batch_id IS NULL) OR (postpaid_nano > 0 AND postpaid_batch_id IS NULL)"
        )
        states = dict(market.sql("SELECT delivery, count(*) FROM billing_meterbatch GROUP BY 1"))
        assert "failed" not in states, states
        return not unsealed and "pending" not in states

    market.until("Stripe has accepted every batch", told, 120)


def compare(market: World, standin: Handle) -> None:
    """What Stripe added up per customer and meter is what the ledger charged, floored."""
    events: list[dict[str, Any]] = standin.state(events=True)["events"]
    heard: dict[tuple[str, str], int] = defaultdict(int)
    for event in events:
        payload = event["payload"]
        heard[payload["stripe_customer_id"], event["event_name"]] += int(payload["value"])
    identifiers = [event["identifier"] for event in events]
    assert len(set(identifiers)) == len(identifiers)
    sealed = market.sql("SELECT id::text FROM billing_meterbatch WHERE micro_usd > 0")
    assert {batch for (batch,) in sealed} == set(identifiers)
    owed = market.sql(
        "SELECT w.stripe_customer_id, sum(c.granted_nano + c.prepaid_nano)::bigint, "
        "sum(c.postpaid_nano)::bigint "
        "FROM billing_charge c JOIN billing_wallet w USING (org_id) GROUP BY 1"
    )
    expected = {
        (customer, name): nano // 1000
        for customer, prepaid, postpaid in owed
        for name, nano in (
            ("mercato_prepaid_spend_micro_usd", prepaid),
            ("mercato_spend_micro_usd", postpaid),
        )
        if nano >= 1000
    }
    assert expected, "nothing was charged"
    assert dict(heard) == expected
