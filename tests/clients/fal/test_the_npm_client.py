"""fal's client from npm, as published: by fal's own hosts, and by its setting `proxyUrl`."""

import base64
import io

import pytest
from PIL import Image

from marketplace.jobs import sweeper
from marketplace.jobs.models import File, Job
from tests.cast import PIXEL, SCHEMA, listed_version
from tests.clients.conftest import failing, succeed, working

INPUT = {"prompt": "a red circle"}
PROXY, STOCK = "proxyUrl", "fal's hosts"


@pytest.fixture(params=[STOCK, PROXY])
def config(request, market, settings):
    """What is given to the client: nothing, or where its calls go."""
    if request.param == STOCK:
        return {}
    settings.FAL_HOSTS = {}
    return {"proxyUrl": {"url": f"{market.url}/api/fal/proxy", "when": "always"}}


@pytest.fixture
def js(market, connect, node):
    """Run a script of `js/`, which knows where we are, Bob's key and the model."""

    def run(script, **given):
        where = {"url": market.url, "key": market.secret, "ref": market.ref}
        return node(f"fal/js/{script}.mjs", market=where, given=given, env=connect.env)

    return run


def test_calls(market, js, config):
    with working():
        told = js("calls", input=INPUT, config=config)
    assert base64.b64decode(told["bytes"]) == PIXEL
    assert (told["ran"]["data"]["seed"], told["asked"]) == (7, 2)
    jobs = {str(job.pk): job for job in Job.objects.all()}
    assert told["ran"]["requestId"] in jobs
    asked = jobs[told["queued"]["request_id"]]
    assert (asked.priority, (asked.start_by - asked.created_at).total_seconds()) == (-1, 30)
    assert told["status"]["metrics"]["inference_time"] >= 0
    assert [line["message"] for line in told["status"]["logs"]] == ["step 2 of 4", "step 4 of 4"]
    assert told["result"]["requestId"] == told["queued"]["request_id"]
    assert told["polled"][-1] == told["told"][-1]["status"] == "COMPLETED"
    assert len(told["told"][-1]["logs"]) == 2
    for made in (told["result"], told["subscribed"], told["followed"]):
        assert made["data"]["images"][0]["width"] == 128
    assert told["events"][-1] == told["done"]
    assert told["done"]["seed"] == 7
    assert {job.charge_nano for job in jobs.values()} == {4_000_000, 8_000_000}
    assert len(jobs) == 6


def test_what_a_browser_does(market, js):
    with working():
        told = js("browser", input=INPUT)
    assert told["streamed"]["seed"] == 7
    assert told["made"]["result"]["images"][0]["content_type"] == "image/png"
    assert told["wrong"]["error"].startswith("ApiError: invalid_input: num_images")
    assert told["gone"]["error"].startswith("ApiError: model_not_found")
    assert Job.objects.count() == 2


@pytest.mark.parametrize("way", ["run", "submit", "subscribe", "stream"])
def test_bad_inputs_and_keys(market, js, way):
    told = js("fails", call={"way": way, "input": {"webhookUrl": "x", **INPUT}})
    assert (told["error"]["name"], told["error"]["status"]) == ("ValidationError", 422)
    (field,) = told["fields"]
    assert field["loc"] == ["body", "webhookUrl"]
    assert "`webhookUrl` in JavaScript" in told["error"]["message"]
    bad = js("fails", key="mk_nonsense", call={"way": way, "input": INPUT})
    assert (bad["error"]["name"], bad["error"]["status"]) == ("ApiError", 401)
    assert "not an API key" in bad["error"]["message"]
    assert (told["posts"], bad["posts"], Job.objects.count()) == (1, 1, 0)


def test_no_credit_and_no_model(market, js, config):
    poor = js(
        "fails", key=market.stranger_secret, config=config, call={"way": "run", "input": INPUT}
    )
    assert (poor["error"]["status"], poor["posts"]) == (402, 1)
    gone = js("fails", config=config, call={"way": "run", "ref": "atelier/no", "input": INPUT})
    assert (gone["error"]["status"], gone["posts"]) == (404, 1)
    assert gone["error"]["body"]["error_type"] == "model_not_found"


@pytest.mark.parametrize("way", ["run", "subscribe"])
def test_a_model_that_fails(js, way):
    with working(failing()):
        told = js("fails", call={"way": way, "input": INPUT})
    assert (told["error"]["status"], told["posts"]) == (500, 1)
    assert told["error"]["message"] == "The model failed on this input."
    assert told["error"]["requestId"] == str(Job.objects.get().pk)


def test_a_time_to_start_that_is_up_is_not_repeated(js):
    def too_late(job):
        import time

        time.sleep(2.1)
        sweeper.sweep()

    with working(too_late):
        told = js("fails", call={"way": "run", "input": INPUT, "startTimeout": 2})
    assert (told["error"]["status"], told["user"], told["posts"]) == (504, "user", 1)


def test_cancelling(js, config):
    told = js("cancels", input=INPUT, config=config)
    assert (told["status"]["status"], told["status"]["error_type"]) == ("COMPLETED", "cancelled")
    assert told["error"]["status"] == 400
    assert "timed out" in told["late"]["message"]
    assert [job.status for job in Job.objects.all()] == ["cancelled", "cancelled"]


def test_files(market, js, config, settings):
    settings.FILE_MAX_BYTES = 100 * 2**20
    picture = {"type": "string", "format": "file-id"}
    schema = {**SCHEMA, "properties": {**SCHEMA["properties"], "image": picture}}
    made = listed_version(
        market.vendor, market.licence, market.sam, name="vary", input_schema=schema
    )
    png = io.BytesIO()
    Image.new("RGB", (4, 4), "red").save(png, "PNG")
    with working(succeed):
        told = js(
            "files",
            ref=made.model.ref,
            config=config,
            picture=base64.b64encode(png.getvalue()).decode(),
        )
    assert (told["inside"], told["named"]) == (7, 7)
    kept = {str(file.pk): file for file in File.objects.filter(deleted_at__isnull=True)}
    sent, large = (kept[url.rpartition("/")[2]] for url in (told["url"], told["parts"]))
    assert (sent.name, large.name, large.size) == ("red.png", "large.bin", 91 * 2**20)
    assert (sent.expires_at - sent.created_at).total_seconds() == pytest.approx(3600, abs=2)
    assert str(sent.pk) in {job.input["image"] for job in Job.objects.all()}


def test_an_application_that_keeps_the_key(market, js):
    with working():
        told = js("server", input=INPUT)
    assert (told["ran"]["data"]["seed"], told["followed"]["data"]["seed"]) == (7, 7)
    assert {job.api_key_id for job in Job.objects.all()} == {market.key.pk}
