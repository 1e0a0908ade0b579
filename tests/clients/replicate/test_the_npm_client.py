"""Replicate's client from npm, as published, does what the Python one does; its own errors too."""

import base64
import io
import json
import time

import pytest
from PIL import Image
from waffle.testutils import override_switch

from marketplace.accounts import services as accounts
from marketplace.core import flags
from marketplace.jobs import services, webhooks
from marketplace.jobs.models import Job
from tests.cast import PIXEL, SCHEMA, listed_version
from tests.clients.conftest import failing, succeed, working

GIVEN = {"prompt": "a red circle"}


@pytest.fixture
def js(tls_market, live_tls, node):
    """Run a script of `js/`, which knows where we are, Bob's key and the model."""

    def run(script, *, key=None, **given):
        where = {"url": tls_market.url, "key": key or tls_market.secret, "ref": tls_market.ref}
        return node(f"replicate/js/{script}.mjs", market=where, given=given, env=live_tls.env)

    return run


def slowly(job):
    time.sleep(1.5)
    succeed(job)


def test_run_of_a_model_returns_files(tls_market, js):
    with working():
        told = js("runs", input=GIVEN)
    (file,) = told["files"]
    assert base64.b64decode(file["bytes"]) == PIXEL
    assert (file["kind"], told["states"]) == ("FileOutput", ["succeeded", "succeeded"])
    assert file["url"].startswith(f"{tls_market.url}/files/")
    job = Job.objects.get()
    assert (job.status, job.charge_nano, job.door) == ("succeeded", 4_000_000, "replicate")


def test_run_of_a_version_returns_all(tls_market, js):
    with working():
        ref = f"{tls_market.ref}:{tls_market.version.pk}"
        told = js("runs", ref=ref, input={**GIVEN, "num_images": 2})
    assert len(told["files"]) == 2
    assert Job.objects.get().version_id == tls_market.version.pk


def test_run_goes_on_when_the_time_to_wait_is_up(js):
    with working(slowly):
        told = js("runs", input=GIVEN, wait={"mode": "block", "timeout": 1})
    assert (told["states"][0], told["states"][-1]) == ("starting", "succeeded")
    assert len(told["files"]) == 1


def test_run_polls_where_it_is_asked_to(js):
    with working(slowly):
        told = js("runs", input=GIVEN, wait={"mode": "poll", "interval": 50})
    assert (told["states"][0], told["states"][-1]) == ("starting", "succeeded")
    assert "starting" in told["states"][1:-1]


def test_a_stream_is_read_without_a_key(js):
    with working(slowly):
        told = js("streams", input=GIVEN)
    kinds = [each["event"] for each in told["events"]]
    assert told["error"] is None
    assert kinds[-2:] == ["output", "done"]
    assert "logs" in kinds
    output = told["events"][-2]
    assert output["text"] == output["data"]
    assert output["data"].startswith("https://127.0.0.1:")


def test_a_stream_of_a_fault_throws(js):
    with working(failing()):
        told = js("streams", input=GIVEN)
    assert told["error"]["message"] == "The model failed on this input."


def test_a_call_is_cancelled(js):
    told = js("cancels", input=GIVEN)
    assert (told["first"], told["cancelled"], told["again"]) == ("starting", "canceled", "canceled")
    assert (told["states"][-1], told["output"]) == ("canceled", None)
    assert {job.status for job in Job.objects.all()} == {"cancelled"}
    assert sum(job.charge_nano or 0 for job in Job.objects.all()) == 0


def test_files_are_kept_and_pictures_sent(tls_market, js):
    market = tls_market
    picture = {"type": "string", "format": "file-id"}
    schema = {**SCHEMA, "properties": {**SCHEMA["properties"], "image": picture}}
    made = listed_version(
        market.vendor, market.licence, market.sam, name="vary", input_schema=schema
    )
    png = io.BytesIO()
    Image.new("RGB", (4, 4), "red").save(png, "PNG")
    told = js("files", ref=made.model.ref, picture=base64.b64encode(png.getvalue()).decode())
    assert (told["made"]["name"], told["made"]["size"]) == ("a b.bin", 7)
    assert told["made"]["metadata"] == {"of": "a test"}
    assert told["got"]["checksums"] == told["made"]["checksums"]
    assert (told["listed"], told["deleted"]) == ([told["made"]["id"]], True)
    assert told["error"]["response"]["status"] == 404
    assert set(told["ways"].values()) == {"starting"}
    assert len(told["ways"]) == 3
    assert all(job.input["image"] for job in Job.objects.all())


def test_everything_that_is_read(tls_market, js, monkeypatch):
    from marketplace.api.pagination import CursorPagination

    market = tls_market
    monkeypatch.setattr(CursorPagination, "page_size", 2)
    for _ in range(5):
        services.job_submit(org=market.developer, ref=market.ref, given={"prompt": "x"})
    told = js("lists", search="sketch")
    assert [len(page) for page in told["pages"]] == [2, 2, 1]
    assert {pk for page in told["pages"] for pk in page} == {str(j.pk) for j in Job.objects.all()}
    assert told["model"] == {"owner": "atelier", "name": "sketch", "visibility": "public"}
    assert told["models"] == told["search"] == told["collection"] == ["sketch"]
    assert told["versions"] == [str(market.version.pk)]
    assert told["required"] == ["prompt"]
    assert "text-to-image" in told["collections"]
    assert [row["sku"] for row in told["hardware"]] == ["small"]
    assert told["account"]["username"] == "builders"
    assert told["deployments"] == []
    assert told["secret"]["key"] == market.developer.webhook_secret


def test_a_webhook_passes_the_clients_own_check(tls_market, js, receiver):
    with working():
        js("runs", input=GIVEN, webhook=receiver.url)
    webhooks.deliveries_send()
    ((headers, body),) = receiver.seen
    assert json.loads(body)["status"] == "succeeded"
    assert js("hooks", headers=headers, body=body.decode()) == {"right": True, "forged": False}


@pytest.mark.parametrize(
    ("given", "status", "said"),
    [
        ({"input": {}}, 422, "input.prompt"),
        ({"input": {**GIVEN, "num_images": 99}}, 422, "input.num_images"),
        ({"input": GIVEN, "ref": "atelier/nothing"}, 404, "not_found"),
        ({"input": GIVEN, "ref": "atelier/sketch:" + "0" * 32}, 404, "not_found"),
        ({"input": GIVEN, "webhook": "ftp://example.org/hook"}, 422, "webhook"),
    ],
)
def test_what_is_refused_is_an_api_error_sent_once(js, given, status, said):
    told = js("fails", **given)
    error = told["error"]
    assert (error["name"], error["response"]["status"]) == ("ApiError", status)
    assert said in error["message"]
    assert len(told["sent"]) == 1
    assert not Job.objects.exists()


def test_keys_that_may_not(tls_market, js):
    org = tls_market.developer
    _, reader = accounts.api_key_create(org=org, name="reader", scopes=["read"])
    _, small = accounts.api_key_create(org=org, name="small", scopes=["run"], monthly_budget_nano=1)
    poor = tls_market.stranger_secret
    for key, status in (("mk_nonsense", 401), (reader, 403), (small, 402), (poor, 402)):
        told = js("fails", key=key, input=GIVEN)
        assert (told["error"]["name"], len(told["sent"])) == ("ApiError", 1)
        assert told["error"]["response"]["status"] == status
    assert not Job.objects.exists()


def test_while_the_market_takes_no_calls_a_post_is_sent_once(js):
    with override_switch(flags.CALLS, active=False):
        told = js("fails", input=GIVEN)
    assert (told["error"]["response"]["status"], len(told["sent"])) == (503, 1)


@pytest.mark.parametrize("mode", ["block", "poll"])
def test_a_fault_of_the_model_is_thrown_and_costs_nothing(js, mode):
    with working(failing()):
        told = js("fails", input=GIVEN, wait={"mode": mode})
    error = told["error"]
    assert (error["name"], "response" in error) == ("Error", False)
    assert error["message"] == "Prediction failed: The model failed on this input."
    assert sum(call.startswith("POST") for call in told["sent"]) == 1
    assert Job.objects.get().charge_nano == 0
