"""Nothing is fetched for who cannot pay or asks for what there is not, and only so much at once."""

import http.server
import io
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import httpx
import openai
import pytest
from PIL import Image

from marketplace.catalog import services as catalog
from marketplace.jobs.models import File, Job
from tests.cast import SCHEMA, listed_version
from tests.clients.conftest import working

WITH_IMAGE = {
    **SCHEMA,
    "properties": {**SCHEMA["properties"], "image": {"type": "string", "format": "file-id"}},
}


def png():
    made = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(made, "PNG")
    return made.getvalue()


@pytest.fixture
def painter(market):
    return listed_version(
        market.vendor, market.licence, market.sam, name="painter", input_schema=WITH_IMAGE
    )


@pytest.fixture
def site(settings):
    """A slow server of pictures on this machine: how often it was asked, and how much at once."""
    settings.OUTBOUND_ALLOW_CIDRS = ["127.0.0.0/8"]
    body, lock = png(), threading.Lock()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            with lock:
                server.asked += 1
                server.now += 1
                server.most = max(server.most, server.now)
            time.sleep(server.takes_s)
            with lock:
                server.now -= 1
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.asked = server.now = server.most = 0
    server.takes_s = 0
    server.url = f"http://127.0.0.1:{server.server_port}/red.png"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def submit(market, ref, image, secret=None, **more):
    return httpx.post(
        f"{market.url}/v1/jobs",
        headers={"Authorization": f"Bearer {secret or market.secret}"},
        json={"model": ref, "input": {"prompt": "x", "image": image, **more}},
        timeout=60,
    )


def test_nothing_is_fetched_for_who_cannot_pay(market, painter, site):
    ref = painter.model.ref
    answer = submit(market, ref, site.url, market.stranger_secret)
    assert (answer.status_code, site.asked) == (402, 0), answer.text
    assert answer.json()["error"]["code"] == "insufficient_funds"
    key = market.key
    key.monthly_budget_nano = 1
    key.save()
    answer = submit(market, ref, site.url)
    assert (answer.status_code, site.asked) == (402, 0), answer.text
    assert answer.json()["error"]["code"] == "budget_exceeded"
    assert not Job.objects.exists()
    assert not File.objects.exists()


def test_an_address_of_ours_in_other_letters_is_no_way_round(market, painter, site, settings):
    settings.PUBLIC_URL = site.url.removesuffix("/red.png")
    answer = submit(market, painter.model.ref, "HTTP" + site.url[4:], market.stranger_secret)
    assert (answer.status_code, site.asked) == (402, 0), answer.text


def test_what_is_free_needs_no_money(market, painter, site):
    catalog.price_set(
        version=painter, unit="image", unit_price=Decimal("0.01"), free_quota=Decimal(1)
    )
    answer = submit(market, painter.model.ref, site.url, market.stranger_secret)
    assert (answer.status_code, site.asked) == (202, 1), answer.text
    assert Job.objects.get().quote_nano == 0
    answer = submit(market, painter.model.ref, site.url, market.stranger_secret)
    assert (answer.status_code, site.asked) == (402, 1), answer.text


def test_a_bad_input_is_told_before_anything_is_fetched(market, painter, site):
    answer = submit(market, painter.model.ref, site.url, num_images=99)
    assert (answer.status_code, site.asked) == (422, 0), answer.text
    assert list(answer.json()["error"]["fields"]) == ["input.num_images"]


def test_an_organisation_has_so_many_fetched(market, painter, site, settings):
    settings.INPUT_FETCHES_PER_SECOND, settings.INPUT_FETCHES_BURST = 0.01, 2
    ref = painter.model.ref
    assert [submit(market, ref, site.url).status_code for _ in range(2)] == [202, 202]
    answer = submit(market, ref, site.url)
    assert answer.status_code == 429, answer.text
    assert int(answer.headers["Retry-After"]) > 0
    given = {"prompt": "x", "image": site.url}
    headers = {"Authorization": f"Bearer {market.secret}"}
    for path, body in (
        (f"/fal/run/{ref}", given),
        ("/replicate/v1/predictions", {"version": ref, "input": given}),
        ("/openai/v1/images/edits", {"model": ref, "prompt": "x", "url": site.url}),
    ):
        answer = httpx.post(f"{market.url}{path}", json=body, headers=headers, timeout=30)
        assert answer.status_code == 503, (path, answer.text)
        assert int(answer.headers["Retry-After"]) > 0
    assert (Job.objects.count(), site.asked) == (2, 2)
    with_id = submit(market, ref, str(File.objects.first().pk))
    assert with_id.status_code == 202, "what is fetched already is no fetch"


def test_the_published_client_comes_again(market, painter, site, settings):
    settings.INPUT_FETCHES_PER_SECOND, settings.INPUT_FETCHES_BURST = 0.5, 1
    sent = []
    with httpx.Client(event_hooks={"request": [sent.append]}) as http_client:
        client = openai.OpenAI(
            api_key=market.secret, base_url=f"{market.url}/openai/v1", http_client=http_client
        )
        more = {"model": painter.model.ref, "prompt": "x", "extra_body": {"image": site.url}}
        with working():
            made = [client.images.generate(**more) for _ in range(2)]
    assert all(each.data[0].b64_json for each in made)
    assert len(sent) > 2, "one was refused, and repeated by the client"
    assert Job.objects.count() == 2


def test_calls_at_once_take_turns(market, painter, site, settings):
    settings.INPUT_FETCHES_AT_ONCE = 4
    site.takes_s = 0.2
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: submit(market, painter.model.ref, site.url), range(6)))
    assert [answer.status_code for answer in answers] == [202] * 6
    assert site.asked == 6
    assert site.most <= 2, "one organisation has half of them"


def test_a_turn_that_does_not_come(market, painter, site, settings, monkeypatch):
    settings.INPUT_FETCHES_AT_ONCE = 2
    monkeypatch.setattr("marketplace.jobs.fetching._WAIT_S", 0.2)
    site.takes_s = 2
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda _: submit(market, painter.model.ref, site.url), range(2)))
    assert sorted(answer.status_code for answer in answers) == [202, 429]
    assert submit(market, painter.model.ref, site.url).status_code == 202, "it is given back"
