"""A webhook is tried for two hours, and a slow server holds nobody else's back."""

import http.server
import itertools
import threading
import time
from datetime import timedelta

import pytest

from marketplace.accounts.endpoints import endpoint_create, endpoint_test
from marketplace.accounts.events import events_send
from marketplace.accounts.webhook_models import AccountEvent
from marketplace.core import clock, webhooks


def walk(row_id, receiver):
    """Send whenever the row is due, on a stopped clock. Returns the seconds of each attempt."""
    began, at = clock.now(), []
    while True:
        row = AccountEvent.objects.get(pk=row_id)
        if row.delivery != "pending":
            return at
        clock.move_to(row.next_attempt_at - timedelta(seconds=1))
        assert len(receiver.seen) == len(at)
        events_send()
        assert len(receiver.seen) == len(at), "before its time"
        clock.move_to(row.next_attempt_at)
        events_send()
        at.append((clock.now() - began).total_seconds())


def test_ten_attempts_within_about_two_hours(cast, receiver):
    endpoint = endpoint_create(org=cast.developer, url=receiver.url)
    receiver.statuses = [503] * 20
    with clock.moved():
        row = endpoint_test(org=cast.developer, endpoint_id=endpoint.pk)
        at = walk(row.pk, receiver)
    assert sum(AccountEvent.backoff_s) == 7200
    assert len(at) == len(receiver.seen) == 10
    waits = [after - before for before, after in itertools.pairwise(at)]
    for wait, meant in zip(waits, AccountEvent.backoff_s, strict=True):
        assert 0.8 * meant <= wait <= 1.2 * meant
    assert len({round(w / m, 6) for w, m in zip(waits, AccountEvent.backoff_s, strict=True)}) > 1
    assert 0.8 * 7200 <= at[-1] <= 1.2 * 7200


def test_a_replay_has_two_hours_again(cast, receiver):
    endpoint = endpoint_create(org=cast.developer, url=receiver.url)
    receiver.statuses = [503] * 20
    with clock.moved():
        row = endpoint_test(org=cast.developer, endpoint_id=endpoint.pk)
        walk(row.pk, receiver)
        AccountEvent.send_again(AccountEvent.objects.all())
        receiver.seen.clear()
        at = walk(row.pk, receiver)
    assert len(at) == 10
    assert at[1] <= 1.2 * 5


@pytest.fixture
def slow_server():
    """A server that takes its time; `answers` says whether it answers at all then."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.server.seen.append(time.monotonic())
            time.sleep(0.3)
            if self.server.answers:
                self.send_response(200)
                self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.seen, server.answers = [], True
    server.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


@pytest.fixture
def queue(cast, receiver, slow_server, monkeypatch):
    """Three events for the slow server, due before one for a quick one."""
    monkeypatch.setattr(webhooks, "_SLOW_S", 0.2)
    slow = endpoint_create(org=cast.developer, url=f"{slow_server.url}/hook?x=1")
    quick = endpoint_create(org=cast.developer, url=receiver.url)
    moment = clock.now() - timedelta(seconds=9)
    for number, endpoint in enumerate((slow, slow, slow, quick)):
        row = endpoint_test(org=cast.developer, endpoint_id=endpoint.pk)
        at = moment + timedelta(seconds=number)
        AccountEvent.objects.filter(pk=row.pk).update(next_attempt_at=at)
    return slow


def test_a_slow_server_lets_others_go_first(queue, receiver, slow_server):
    seen_before = []
    assert AccountEvent.send_due(budget_s=0.1) == 1, "the first, slowly"
    assert AccountEvent.send_due(budget_s=0.001) == 1
    assert len(receiver.seen) == 1, "the quick one went before the second slow one"
    seen_before += slow_server.seen
    assert len(seen_before) == 1
    assert events_send() == 2


def test_an_attempt_at_a_silent_server_counts_for_all_that_is_due_to_it(
    queue, receiver, slow_server
):
    slow_server.answers = False
    assert events_send() == 1, "the quick one"
    assert len(slow_server.seen) == 1
    rows = AccountEvent.objects.filter(endpoint=queue)
    assert set(rows.values_list("attempts", "delivery")) == {(1, "pending")}
    assert rows.filter(next_attempt_at__gt=clock.now()).count() == 3
    assert rows.filter(last_error__contains="another event").count() == 2


def test_what_was_counted_so_is_given_up_in_the_end(queue, receiver, slow_server):
    slow_server.answers = False
    AccountEvent.objects.filter(endpoint=queue).update(attempts=9)
    events_send()
    assert len(slow_server.seen) == 1
    rows = AccountEvent.objects.filter(endpoint=queue)
    assert set(rows.values_list("attempts", "delivery")) == {(10, "failed")}
    queue.refresh_from_db()
    assert queue.given_up == 3, "each counts for switching the endpoint off"


def test_another_organisation_on_the_same_server_is_not_held_back(
    cast, queue, receiver, slow_server
):
    slow_server.answers = False
    theirs = endpoint_create(org=cast.stranger, url=f"{slow_server.url}/theirs")
    row = endpoint_test(org=cast.stranger, endpoint_id=theirs.pk)
    events_send()
    row.refresh_from_db()
    assert row.attempts == 1
    assert row.first_attempt_at is not None, "it was really tried"
    assert len(slow_server.seen) == 2


def test_many_slow_addresses_hold_back_nobody_elses(cast, receiver, slow_server, monkeypatch):
    monkeypatch.setattr(webhooks, "_SLOW_S", 0.2)
    port, moment = slow_server.server_port, clock.now() - timedelta(seconds=9)
    hosts = ["127.0.0.1", "127.1", "127.0.1"]  # of one machine, and all of them slow
    slow = [endpoint_create(org=cast.developer, url=f"http://{host}:{port}/") for host in hosts]
    quick = endpoint_create(org=cast.stranger, url=receiver.url)
    for number, endpoint in enumerate([*slow, quick]):
        row = endpoint_test(org=endpoint.org, endpoint_id=endpoint.pk)
        at = moment + timedelta(seconds=number)
        AccountEvent.objects.filter(pk=row.pk).update(next_attempt_at=at)
    for _ in range(2):
        assert AccountEvent.send_due(budget_s=0.001) == 1
    assert (len(slow_server.seen), len(receiver.seen)) == (1, 1)
    assert events_send() == 2, "the other slow ones, which were not counted as tried"


def test_an_address_in_other_letters_is_the_same_server(cast, receiver, slow_server, monkeypatch):
    monkeypatch.setattr(webhooks, "_SLOW_S", 0.2)
    slow_server.answers = False
    for start in ("HTTP://LocalHost", "http://localhost", "Http://LOCALHOST"):
        url = f"{start}:{slow_server.server_port}/"
        endpoint = endpoint_create(org=cast.developer, url=url)
        endpoint_test(org=cast.developer, endpoint_id=endpoint.pk)
    events_send()
    assert len(slow_server.seen) == 1
    assert set(AccountEvent.objects.values_list("attempts", "delivery")) == {(1, "pending")}
