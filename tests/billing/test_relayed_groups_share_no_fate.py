"""Batches are relayed in groups: what happens to one of a group happens to no other."""

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db.models import F

from billing import meter_ids, meters
from billing.customers import customer_of, gateway_shared
from billing.models import MeterBatch, Wallet
from billing.services import credit_top_up
from billing.stripe.gateway import Outcome, OutcomeKind, StripeGateway
from marketplace.core import clock
from marketplace.core.clock import now
from marketplace.jobs import services
from tests.cast import report_finished

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _configured(settings, standin):
    settings.STRIPE_API_KEY, settings.STRIPE_API_BASE = "sk_test_x", standin.url
    settings.METER_SEAL_AFTER_S = 0
    meter_ids.meters_ensure.cache_clear()


@pytest.fixture
def two(cast):
    """Return two organisations that can pay."""
    credit_top_up(org_id=cast.stranger.pk, amount_nano=10**9, source="stranger")
    return cast.developer, cast.stranger


def seal(cast, *orgs):
    for org in orgs:
        job, _ = services.job_submit(org=org, ref=cast.ref, given={"prompt": "x"})
        assert services.job_finished(report_finished(job))
    meters.batches_seal()


def told(standin):
    return [event["identifier"] for event in standin.state(events=True)["events"]]


@pytest.mark.parametrize("streams", [False, True])
def test_one_customer_that_cannot_be_made_holds_up_no_other(cast, standin, settings, two, streams):
    settings.STRIPE_METER_STREAM = streams
    seal(cast, *two)
    standin.fault("500_stored", match="/v1/customers")
    assert meters.batches_relay() == 1
    left = MeterBatch.objects.get(delivery="pending")
    assert (left.attempts, left.first_attempt_at) == (1, None)
    MeterBatch.objects.update(next_attempt_at=now())
    assert meters.batches_relay() == 1


def test_a_refused_stream_goes_in_halves_and_then_singly(cast, standin, settings, two, monkeypatch):
    settings.STRIPE_METER_STREAM = True
    monkeypatch.setattr(meters, "_SINGLY", 1)
    with clock.moved():
        for _ in range(2):
            seal(cast, *two)
            clock.move_to(now() + timedelta(minutes=1))
        assert meters.batches_seal() == 2
        poison = str(MeterBatch.objects.filter(org=two[1]).earliest("sequence").pk)
        asked = []
        send = StripeGateway.meter_events_stream

        def refuse(self, events, key=""):
            asked.append((key, len(events)))
            if poison in {event.identifier for event in events}:
                return Outcome(OutcomeKind.REJECTED, "400: something is wrong with one of them")
            return send(self, events, key)

        monkeypatch.setattr(StripeGateway, "meter_events_stream", refuse)
        assert meters.batches_relay() == 4
    assert asked[0][1] == 4
    assert sorted(count for _, count in asked) == [1, 1, 2, 2, 4]
    assert len({key for key, _ in asked}) == 5, "no key is used for two bodies"
    ours = {str(pk) for pk in MeterBatch.objects.values_list("pk", flat=True)}
    assert ours <= set(told(standin))
    assert MeterBatch.objects.get(pk=poison).sent_in == f"{poison}:1"


@pytest.mark.parametrize("send", [meters._send_apart, meters._send_together])
def test_a_batch_that_a_later_claim_has_taken_over_is_neither_sent_nor_marked(
    cast, standin, two, send
):
    seal(cast, *two)
    gateway = gateway_shared()
    lane = [(batch, customer_of(gateway, batch.org_id)) for batch in MeterBatch.claim(10)]
    taken = lane[0][0]
    MeterBatch.objects.filter(pk=taken.pk).update(attempts=F("attempts") + 1)
    with ThreadPoolExecutor(1) as pool:
        assert send(gateway, lane, pool, time.monotonic() + 60) == 1
    row = MeterBatch.objects.get(pk=taken.pk)
    assert (row.delivery, row.attempts, row.first_attempt_at) == ("pending", 2, None)
    assert str(taken.pk) not in told(standin)
    assert str(lane[1][0].pk) in told(standin)


@pytest.mark.parametrize("streams", [False, True])
def test_what_does_not_fit_into_a_lease_keeps_its_claim_and_comes_again(
    cast, standin, settings, two, monkeypatch, streams
):
    settings.STRIPE_METER_STREAM = streams
    seal(cast, *two)
    for org in two:
        customer_of(gateway_shared(), org.pk)
    with monkeypatch.context() as patch:
        patch.setattr(meters, "_LAST_REQUEST_S", MeterBatch.lease_s + 1)
        assert meters.batches_relay() == 0
    for batch in MeterBatch.objects.all():
        assert (batch.delivery, batch.attempts, batch.first_attempt_at) == ("pending", 1, None)
        assert batch.next_attempt_at > now() + timedelta(seconds=60), "the claim is still on"
        assert str(batch.pk) not in told(standin)
    MeterBatch.objects.update(next_attempt_at=now())
    assert meters.batches_relay() == 2
    assert Wallet.objects.exclude(stripe_customer_id="").count() == 2
