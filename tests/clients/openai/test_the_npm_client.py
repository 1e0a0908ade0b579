"""OpenAI's client from npm, as published, does what the Python one does; its own errors too."""

import base64

import pytest

from marketplace.jobs.models import Job
from tests.cast import PIXEL
from tests.clients.conftest import failing, working
from tests.clients.openai.conftest import film, png, stored
from tests.clients.openai.test_failures_are_the_clients_own import status
from tests.clients.openai.test_streams_bring_partial_pictures import WEBP, draw

PICTURE = base64.b64encode(PIXEL).decode()
CALL = {"model": "atelier/sketch", "prompt": "a red circle"}


@pytest.fixture
def js(market, node):
    """Run a script of `js/`, which knows where we are, Bob's key and the model."""

    def run(script, *, key=None, **given):
        where = {"url": market.url, "key": key or market.secret, "ref": market.ref}
        return node(f"openai/js/{script}.mjs", market=where, given=given)

    return run


def text(body):
    return base64.b64encode(body).decode()


def quickly(job):
    """As `draw`, without waiting for somebody who watches: who asks for the whole does not."""
    from tests.clients.conftest import succeed

    succeed(job) if Job.objects.count() < 3 else draw(job)


def test_pictures_in_each_form(js):
    with working(quickly):
        told = js("images")
    assert [each["b64_json"] for each in told["made"]["data"]] == [PICTURE]
    assert told["cost"] == "4000000"
    assert told["fetched"] == [PICTURE] * 2
    assert [(each["type"], each["b64_json"]) for each in told["events"]] == [
        ("image_generation.partial_image", WEBP),
        ("image_generation.completed", PICTURE),
    ]
    assert Job.objects.order_by("created_at")[0].input["seed"] == 5


def test_edits_with_a_mask(js, painter):
    with working():
        told = js("edits", ref=painter, image=text(png()), mask=text(png("RGBA", (0, 0, 0, 0))))
    assert told["made"]["data"][0]["b64_json"] == PICTURE
    job = Job.objects.get()
    assert stored(job.input["image"]) == png()
    assert (job.input["seed"], job.input["num_images"]) == (7, 1)
    for name, param in (("nested", "loras.0.uri"), ("several", "image")):
        assert (told[name]["type"], told[name]["param"]) == ("UnprocessableEntityError", param)
        assert told[name]["status"] == 422


def test_clips(js, filmer):
    with working(film):
        told = js("videos", ref=filmer, image=text(png()))
    assert told["first"]["status"] == "queued"
    assert (told["made"]["status"], told["made"]["seconds"]) == ("completed", "2.125")
    assert told["content"] == PICTURE
    assert told["remix"]["remixed_from_video_id"] == told["made"]["id"]
    assert told["listed"] == [told["remix"]["id"], told["made"]["id"]]
    assert told["deleted"]["deleted"]
    assert told["gone"]["status"] == 404


def test_models(market, js):
    told = js("models")
    assert [each["id"] for each in told["listed"]] == [market.ref] == [told["found"]["id"]]
    assert told["kept"]["status"] == 403


@pytest.mark.parametrize(
    ("given", "status", "code", "param"),
    [
        ({**CALL, "n": 99}, 422, "invalid_input", "n"),
        ({**CALL, "size": "9000x9000"}, 422, "invalid_input", "size"),
        ({**CALL, "model": "atelier/nothing"}, 404, "model_not_found", "model"),
    ],
)
def test_what_is_refused_is_sent_once(js, given, status, code, param):
    told = js("fails", method="images.generate", call=given)
    error = told["error"]
    assert (error["status"], error["code"], error["param"]) == (status, code, param)
    assert len(told["sent"]) == 1
    assert not Job.objects.exists()


def test_keys_that_may_not(market, js):
    for key, answer in (("mk_nonsense", 401), (market.stranger_secret, 402)):
        told = js("fails", key=key, method="images.generate", call=CALL)
        assert (told["error"]["status"], len(told["sent"])) == (answer, 1)


def test_a_model_that_fails_is_called_once(js, market):
    with working(failing()):
        told = js("fails", method="images.generate", call=CALL)
    assert (told["error"]["status"], told["error"]["code"]) == (500, "engine_error")
    assert (len(told["sent"]), Job.objects.get().charge_nano) == (1, 0)


def test_who_hangs_up_cancels_the_call(js, market):
    options = {"timeout": 1500, "maxRetries": 0}
    told = js("fails", method="images.generate", call=CALL, options=options)
    assert told["error"]["message"] == "Request timed out."
    assert status(Job.objects.get()) == "cancelled"
