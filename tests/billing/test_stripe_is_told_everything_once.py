"""Charges are sealed into batches, and each batch reaches Stripe as one meter event."""

from datetime import timedelta

import pytest
from django.db import connection

from billing import customers, meter_ids, meters
from billing.models import Charge, Funding, Incident, MeterBatch, Wallet
from billing.selectors import balance_of
from billing.wallets import credit_limit_set
from marketplace.core import clock
from marketplace.core.clock import now
from marketplace.core.money import to_nano
from marketplace.jobs import services
from tests.cast import listed_version, report_finished
from tests.stripe_standin import Handle

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _configured(settings, standin: Handle):
    settings.STRIPE_API_KEY, settings.STRIPE_API_BASE = "sk_test_x", standin.url
    settings.METER_SEAL_AFTER_S = 0
    meter_ids.meters_ensure.cache_clear()


def spend(cast, count=1, ref=None):
    for _ in range(count):
        job, _ = services.job_submit(org=cast.developer, ref=ref or cast.ref, given={"prompt": "x"})
        assert services.job_finished(report_finished(job))


def told(standin, cast, funding="prepaid"):
    """Return the sum that the stand-in holds for the developer's customer and one meter."""
    customer = Wallet.objects.get(org=cast.developer).stripe_customer_id
    name = meter_ids.EVENT_NAMES[Funding(funding)]
    events = [
        event
        for event in standin.state(events=True)["events"]
        if event["event_name"] == name and event["payload"]["stripe_customer_id"] == customer
    ]
    return sum(int(event["payload"]["value"]) for event in events)


def test_what_was_charged_is_told_in_micro_dollars(cast, standin):
    spend(cast, 3)
    assert meters.batches_seal() == 3
    assert meters.batches_relay() >= 1
    assert told(standin, cast) == 12_000
    assert meters.batches_seal() == 0
    assert meters.batches_relay() == 0
    assert told(standin, cast) == 12_000


def test_remainders_below_a_micro_dollar_are_carried(cast, standin):
    tiny = listed_version(cast.vendor, cast.licence, cast.sam, name="tiny", price="0.0000007")
    for _ in range(3):
        spend(cast, 1, ref=tiny.model.ref)
        meters.batches_seal()
        meters.batches_relay()
    assert told(standin, cast) == 2
    assert [batch.micro_usd for batch in MeterBatch.objects.order_by("sequence")] == [0, 1, 1]


def test_prepaid_and_owed_usage_go_to_different_meters(cast, standin):
    credit_limit_set(org_id=cast.developer.pk, limit_nano=to_nano("1"))
    spend(cast, 251)  # prepaid for 250
    meters.batches_seal()
    meters.batches_relay()
    assert told(standin, cast, "prepaid") == 1_000_000
    assert told(standin, cast, "postpaid") == 4_000
    assert balance_of(cast.developer.pk).owed_nano == 4_000_000


def test_a_lost_answer_is_sent_again_and_counted_once(cast, standin):
    spend(cast)
    meters.batches_seal()
    standin.fault("drop_after", match="/v1/billing/meter_events")
    assert meters.batches_relay() == 0
    MeterBatch.objects.update(next_attempt_at=now())
    assert meters.batches_relay() == 1
    assert told(standin, cast) == 4_000
    assert MeterBatch.objects.get().attempts == 2


def test_a_stored_500_does_not_block_the_batch(cast, standin):
    spend(cast)
    meters.batches_seal()
    standin.fault("500_stored", match="/v1/billing/meter_events")
    assert meters.batches_relay() == 0
    MeterBatch.objects.update(next_attempt_at=now())
    assert meters.batches_relay() == 1
    assert told(standin, cast) == 4_000


def test_while_stripe_is_away_events_wait(cast, standin, settings):
    settings.STRIPE_API_BASE = "http://127.0.0.1:9"
    spend(cast, 2)
    meters.batches_seal()
    assert meters.batches_relay() == 0
    batch = MeterBatch.objects.get()
    assert (batch.delivery, batch.attempts) == ("pending", 1)
    assert batch.last_error


def test_without_stripe_events_wait_in_the_outbox(cast, settings):
    settings.STRIPE_API_KEY = ""
    spend(cast)
    meters.batches_seal()
    assert meters.batches_relay() == 0
    assert MeterBatch.objects.get().attempts == 0


def _doubt(**changes):
    long_ago = now() - timedelta(hours=21)
    MeterBatch.objects.update(first_attempt_at=long_ago, next_attempt_at=long_ago, **changes)


def test_after_20_hours_of_doubt_stripes_own_count_decides_that_it_has_a_batch(cast, standin):
    spend(cast)
    meters.batches_seal()
    standin.fault("drop_after", match="/v1/billing/meter_events")
    meters.batches_relay()
    _doubt()
    meters.batches_relay()
    assert (MeterBatch.objects.get().delivery, told(standin, cast)) == ("delivered", 4_000)


def test_after_20_hours_of_doubt_what_stripe_does_not_count_is_sent_again(cast, standin):
    spend(cast)
    meters.batches_seal()
    standin.fault("drop_before", match="/v1/billing/meter_events")
    meters.batches_relay()
    _doubt()
    assert meters.batches_relay() == 0
    MeterBatch.objects.update(next_attempt_at=now())
    assert meters.batches_relay() == 1
    assert told(standin, cast) == 4_000
    assert MeterBatch.objects.get().attempts == 3, "attempts go on counting: keys are made of it"


def test_what_stripes_count_does_not_tell_is_left_to_a_person(cast, standin):
    spend(cast)
    meters.batches_seal()
    standin.fault("drop_before", match="/v1/billing/meter_events")
    meters.batches_relay()
    batch = MeterBatch.objects.get()
    customers.gateway_shared().meter_event_send(
        meter_ids.EVENT_NAMES[Funding.PREPAID],
        "not ours",
        Wallet.objects.get(org=cast.developer).stripe_customer_id,
        5,
        int(batch.minute.timestamp()),
        "not ours",
    )
    _doubt()
    meters.batches_relay()
    assert MeterBatch.objects.get().delivery == "failed"
    assert Incident.objects.get().rule == "meter batch undecided"
    before = told(standin, cast)
    assert MeterBatch.replay(MeterBatch.objects.all()) == 1
    meters.batches_relay()
    assert (MeterBatch.objects.get().delivery, told(standin, cast)) == ("failed", before)


def test_a_replayed_batch_that_stripe_has_after_all_is_not_sent_again(cast, standin):
    spend(cast)
    meters.batches_seal()
    standin.fault("drop_after", match="/v1/billing/meter_events")
    meters.batches_relay()
    _doubt(delivery="failed")
    standin.control("POST", "clock", {"offset_s": 25 * 3600})  # Stripe has forgotten the identifier
    try:
        assert MeterBatch.replay(MeterBatch.objects.all()) == 1
        meters.batches_relay()
        assert (MeterBatch.objects.get().delivery, told(standin, cast)) == ("delivered", 4_000)
    finally:
        standin.control("POST", "clock", {"offset_s": 0})


def test_batches_go_by_the_stream_when_asked(cast, standin, settings):
    settings.STRIPE_METER_STREAM = True
    credit_limit_set(org_id=cast.developer.pk, limit_nano=to_nano("1"))
    spend(cast, 251)
    meters.batches_seal()
    assert meters.batches_relay() == MeterBatch.objects.count()
    assert told(standin, cast, "prepaid") + told(standin, cast, "postpaid") == 1_004_000
    assert MeterBatch.objects.filter(sent_in__startswith="stream:").count() >= 2


def test_sealing_goes_on_until_nothing_is_left(cast, monkeypatch):
    monkeypatch.setattr(meters, "_SEAL_LIMIT", 2)
    spend(cast, 5)
    assert meters.batches_seal() == 5
    assert not Charge.objects.filter(prepaid_batch__isnull=True).exists()
    sequences = MeterBatch.objects.order_by("sequence").values_list("sequence", flat=True)
    assert list(sequences) == list(range(1, len(sequences) + 1))
    assert len(sequences) >= 3, "three passes of at most two charges"


def test_sealing_ends_when_its_time_is_up(cast, monkeypatch):
    monkeypatch.setattr(meters, "_SEAL_LIMIT", 2)
    spend(cast, 3)
    assert meters.batches_seal(budget_s=-1) == 2
    assert meters.batches_seal() == 1


def test_sealing_takes_as_many_statements_however_many_minutes(cast, django_assert_max_num_queries):
    with clock.moved():
        for _ in range(8):
            spend(cast)
            clock.move_to(now() + timedelta(minutes=1))
        with django_assert_max_num_queries(20):
            assert meters.batches_seal() == 8
    assert MeterBatch.objects.count() == 8
    minutes = MeterBatch.objects.order_by("sequence").values_list("minute", flat=True)
    assert list(minutes) == sorted(minutes)


@pytest.mark.parametrize(("funding", "index"), [("prepaid", "pre"), ("postpaid", "post")])
def test_what_is_to_be_sealed_is_found_by_its_index(cast, funding, index):
    rows = meters.unsealed(Charge.objects.all(), Funding(funding), now())
    with connection.cursor() as cursor:
        # In a table without rows, looking for those without a batch is as cheap.
        cursor.execute(
            "SELECT indexname FROM pg_indexes WHERE tablename = 'billing_charge' AND indexname LIKE"
            f" 'billing_charge_{funding}_batch_id%'"
        )
        ((other,),) = cursor.fetchall()
        cursor.execute(f"SET LOCAL enable_seqscan = off; DROP INDEX {other}")
    assert f"charge_unsealed_{index} " in rows.explain()


def test_an_unfinished_minute_is_not_sealed(cast, settings):
    settings.METER_SEAL_AFTER_S = 60
    spend(cast)
    assert meters.batches_seal() == 0
    assert Charge.objects.filter(prepaid_batch__isnull=True).count() == 1


def test_a_wrong_key_never_makes_a_batch_stale(cast, standin, settings):
    spend(cast)
    meters.batches_seal()
    standin.fault("429", match="/v1/billing/meter_events")
    assert meters.batches_relay() == 0
    assert MeterBatch.objects.get().first_attempt_at is None, "Stripe said it did not take it"


def test_one_customer_however_many_batches_fail_first(cast, standin):
    spend(cast)
    meters.batches_seal()
    standin.fault("500_stored", match="/v1/customers")
    for _ in range(3):
        MeterBatch.objects.update(next_attempt_at=now())
        meters.batches_relay()
    assert MeterBatch.objects.get().delivery == "delivered"
    wallet = Wallet.objects.get(org=cast.developer)
    assert (wallet.stripe_customer_attempt, told(standin, cast)) == (1, 4_000)
