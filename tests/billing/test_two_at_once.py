"""Many connections at once: no wallet, budget or key is used beyond what it covers."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from billing.models import Hold, SpendCap, WalletShard
from marketplace.accounts import services as accounts
from marketplace.core.errors import InsufficientFunds, WrongState
from marketplace.jobs import services as jobs
from marketplace.jobs.models import Job
from tests.at_once import at_once, kinds
from tests.cast import Cast, make_cast, report_finished

PRICE_NANO = 4_000_000  # one picture of the cast's model


def submit(cast: Cast, **extra: Any) -> Job:
    return jobs.job_submit(org=cast.developer, ref=cast.ref, given={"prompt": "x"}, **extra)[0]


@pytest.mark.usefixtures("transactional_db")
def test_a_wallet_that_covers_seven_starts_seven() -> None:
    cast = make_cast(prepaid="0.031")
    results = at_once([lambda: submit(cast)] * 20)
    assert kinds(results) == {"Job": 7, "InsufficientFunds": 13}
    assert WalletShard.objects.get(org=cast.developer).held_nano == 7 * PRICE_NANO
    assert Hold.objects.count() == Job.objects.count() == 7


@pytest.mark.usefixtures("transactional_db")
def test_a_budget_that_covers_seven_starts_seven() -> None:
    cast = make_cast()
    key, _ = accounts.api_key_create(
        org=cast.developer, name="capped", monthly_budget_nano=7 * PRICE_NANO + PRICE_NANO // 2
    )
    results = at_once([lambda: submit(cast, api_key=key)] * 20)
    assert kinds(results) == {"Job": 7, "InsufficientFunds": 13}
    refused = [found.code for found in results if isinstance(found, InsufficientFunds)]
    assert set(refused) == {"budget_exceeded"}
    assert SpendCap.objects.get(subject_id=key.pk).held_nano == 7 * PRICE_NANO
    assert Hold.objects.count() == 7


@pytest.mark.usefixtures("transactional_db")
def test_one_idempotency_key_is_one_job() -> None:
    cast = make_cast()
    results = at_once([lambda: submit(cast, idempotency_key="same")] * 10)
    assert kinds(results) == {"Job": 10}
    assert {job.pk for job in results} == {Job.objects.get().pk}
    assert Hold.objects.get().amount_nano == PRICE_NANO
    assert WalletShard.objects.get(org=cast.developer).held_nano == PRICE_NANO


@pytest.mark.usefixtures("transactional_db")
def test_starting_ending_and_cancelling_at_once_does_not_deadlock() -> None:
    """Each old job is reported finished and cancelled at once: exactly one of both counts."""
    cast = make_cast()
    key, _ = accounts.api_key_create(org=cast.developer, name="capped", monthly_budget_nano=10**9)
    old = [submit(cast, api_key=key) for _ in range(6)]
    reports = [report_finished(job) for job in old]
    calls: list[Callable[[], Any]] = []
    for job, report in zip(old, reports, strict=True):
        calls += [
            lambda job=job: jobs.job_cancel(org=cast.developer, job=job),
            lambda report=report: jobs.job_finished(report),
            lambda: submit(cast, api_key=key),
        ]
    results = at_once(calls)
    unexpected = [
        found for found in results
        if isinstance(found, Exception) and not isinstance(found, WrongState)
    ]  # fmt: skip
    assert unexpected == []
    for cancelled, finished in zip(results[0::3], results[1::3], strict=True):
        assert isinstance(cancelled, WrongState) is finished
    ended = Counter(Job.objects.filter(pk__in=[j.pk for j in old]).values_list("status", flat=True))
    charged = ended["succeeded"]
    assert charged + ended["cancelled"] == 6
    wallet = WalletShard.objects.get(org=cast.developer)
    assert wallet.held_nano == 6 * PRICE_NANO
    assert wallet.prepaid_nano == 10**9 - charged * PRICE_NANO
    cap = SpendCap.objects.get(subject_id=key.pk)
    assert (cap.spent_nano, cap.held_nano) == (charged * PRICE_NANO, 6 * PRICE_NANO)
