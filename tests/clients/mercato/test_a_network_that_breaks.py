"""Connections break, answers are lost: one call makes one job, and no event is missed."""

import contextlib
import threading
import time

import pytest
from django.db import connection

from marketplace.jobs import events, services
from marketplace.jobs.models import File, Job
from mercato import ConnectionFailed, MercatoError, NotFound, Unavailable
from tests.cast import PIXEL, report_finished, report_started
from tests.clients.conftest import working
from tests.clients.mercato.network import CLOSE, LOSE_ANSWER, Network

GIVEN = {"prompt": "a red circle"}


@pytest.fixture
def network(market):
    made = Network(market.url)
    yield made
    made.close()


@pytest.fixture
def client(make_client, network):
    return make_client(url=network.url)


@pytest.mark.parametrize("fault", [CLOSE, LOSE_ANSWER, 20, 400])
def test_a_repeated_submission_makes_one_job(market, client, network, fault):
    network.faults = [fault, fault]
    job = client.submit(market.ref, GIVEN)
    assert network.connections == 3
    assert str(Job.objects.get().pk) == job.id
    assert client.balance().held_nano_usd == 4_000_000


def test_a_run_whose_answer_is_lost_is_charged_once(market, client, network):
    network.faults = [LOSE_ANSWER]
    with working():
        (picture,) = client.run(market.ref, GIVEN)
    assert picture.read() == PIXEL
    assert client.balance().available_nano_usd == 996_000_000


def test_after_enough_attempts_it_is_told(market, make_client, network):
    client = make_client(url=network.url, max_retries=2)
    network.faults = [CLOSE] * 10
    with pytest.raises(ConnectionFailed):
        client.submit(market.ref, GIVEN)
    assert network.connections == 3
    assert Job.objects.count() == 0


def test_an_upload_whose_answer_is_lost_arrives_once(market, client, network, settings):
    settings.PUBLIC_URL = network.url
    from marketplace.core.storage import storage

    storage.cache_clear()  # the signed address begins with PUBLIC_URL
    client.balance()
    network.faults = [LOSE_ANSWER, LOSE_ANSWER]
    file = client.upload(PIXEL)
    assert b"".join(storage().read(File.objects.get(pk=file.id).key)) == PIXEL


def drip(job_id):
    """Do what a slow worker does, in a thread: ten steps in a second, then the picture."""
    try:
        job = Job.objects.select_related("version__model__org").get(pk=job_id)
        services.job_started(report_started(job))
        for step in range(1, 11):
            events.emit(job.pk, "progress", {"step": step, "steps": 10})
            time.sleep(0.08)
        services.job_finished(report_finished(job))
    finally:
        connection.close()


@pytest.mark.parametrize("fault", [CLOSE, 1500, 2600])
def test_events_go_on_where_the_stream_broke(market, client, make_client, network, fault):
    job = make_client().submit(market.ref, GIVEN)
    network.faults = [fault, fault, fault]
    thread = threading.Thread(target=drip, args=(job.id,))
    thread.start()
    seen = list(client.iter_events(job.id))
    thread.join()
    assert network.connections >= 3
    steps = [event.step for event in seen if event.type == "progress"]
    assert steps == list(range(1, 11)), "each is told once, in order"
    assert [event.type for event in seen].count("done") == 1
    assert seen[-1].job.status == "succeeded"


def answer(status, extra=b"", body=b"{}"):
    head = b"HTTP/1.1 %d X\r\nContent-Length: %d\r\nConnection: close\r\n" % (status, len(body))
    return head + extra + b"\r\n" + body


def test_an_upload_that_is_led_elsewhere_is_no_upload(market, client, settings):
    from marketplace.core.storage import storage

    with contextlib.closing(Network(market.url)) as elsewhere:
        settings.PUBLIC_URL = elsewhere.url
        storage.cache_clear()
        elsewhere.answer = answer(308, b"Location: http://127.0.0.1:1/\r\n")
        with pytest.raises(MercatoError, match="elsewhere"):
            client.upload(PIXEL)


def test_an_id_stays_one_part_of_the_address(client):
    with pytest.raises(NotFound):
        next(client.iter_events("../balance?x="))


@pytest.mark.parametrize("status", [502, 503, 504])
def test_a_gateway_that_fails_is_asked_again(client, network, status):
    network.answer = answer(status)
    threading.Timer(0.3, lambda: setattr(network, "answer", b"")).start()
    assert client.balance().held_nano_usd == 0
    assert network.connections > 1


def test_a_market_that_is_down_is_told(make_client, network):
    client = make_client(url=network.url, max_retries=2)
    network.answer = answer(503, body=b"<h1>down</h1>")
    with pytest.raises(Unavailable, match="HTTP 503") as caught:
        client.balance()
    assert (network.connections, caught.value.status) == (3, 503)


def test_a_fault_of_the_market_is_not_repeated(client, network):
    network.answer = answer(500)
    with pytest.raises(Unavailable):
        client.balance()
    assert network.connections == 1


def test_a_wait_of_an_hour_is_not_waited(client, network):
    network.answer = answer(429, b"Retry-After: 3600\r\n")
    with pytest.raises(MercatoError) as caught:
        client.balance()
    assert (caught.value.retry_after, network.connections) == (3600, 1)


def test_what_answers_is_no_market(client, network):
    network.answer = answer(200, body=b"<h1>hello</h1>")
    with pytest.raises(MercatoError, match="is no market"):
        client.balance()


def test_the_key_is_not_sent_on_by_a_redirect(client, network):
    network.answer = answer(302, b"Location: http://127.0.0.1:1/v1/balance\r\n")
    with pytest.raises(MercatoError, match=r"elsewhere: http://127\.0\.0\.1:1/"):
        client.balance()
    assert network.connections == 1
