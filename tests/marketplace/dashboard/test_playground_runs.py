"""Runs without leaving the page: states, previews, history, re-run; each its own organisation's."""

import base64
import json

import pytest
from waffle.testutils import override_flag

from inference import protocol
from marketplace.core import flags, valkey
from marketplace.jobs import events, services
from marketplace.jobs.models import Job
from tests.cast import SCHEMA, listed_version, report_failed, report_finished, report_started

MODEL = "/models/atelier/sketch/"
HTMX = {"HX-Request": "true"}
PICTURE = b"RIFF\x10\x00\x00\x00WEBPVP8 a preview"


def run(client, **changes):
    given = {"nonce": "n1", "in-prompt": "a red circle", "in-num_images": "1", **changes}
    return client.post(f"{MODEL}run/", given, headers=HTMX)


def the_job(**found):
    return Job.objects.select_related("version__model__org").get(**found)


def live(client, job, seen=""):
    return client.get(f"/playground/runs/{job.pk}/?seen={seen}", headers=HTMX)


def put_preview(job, step=4, steps=8, body=PICTURE, kind=protocol.PREVIEW_TYPE):
    data = base64.b64encode(body).decode()
    found = {"step": step, "steps": steps, "type": kind, "data": data}
    valkey.client().set(protocol.preview_key(str(job.pk)), json.dumps(found), ex=60)


def start(job):
    services.job_started(report_started(job))
    events.emit(job.pk, "started", {"attempt": job.attempt, "worker_id": "w1"})


def test_a_run_goes_through_its_states_on_the_page(bob, cast):
    answer = run(bob)
    assert answer.status_code == 200
    assert b"Queued: waiting for a free worker" in answer.content
    job = the_job()
    start(job)
    assert b"Starting" in live(bob, job).content
    events.emit(job.pk, "log", {"message": "…", "stage": "load", "bytes": 2**20, "total": 2**22})
    assert "Cold start: fetching the weights, 1.0\xa0MB of 4.0\xa0MB" in live(bob, job).text
    events.emit(job.pk, "progress", {"step": 3, "steps": 8})
    assert b"Step 3 of 8" in live(bob, job).content
    events.emit(job.pk, "progress", {"step": 8, "steps": 8})
    assert b"Decoding and storing" in live(bob, job).content
    services.job_finished(report_finished(job))
    ended = live(bob, job)
    assert b'alt="Output 1: a red circle"' in ended.content
    assert 'It cost <span class="num">$0.004</span>' in ended.text
    assert b"hx-get" in ended.content  # the history is asked for anew
    assert b"every 500ms" not in ended.content


def test_what_is_on_the_page_already_is_not_sent_again(bob, cast):
    run(bob)
    job = the_job()
    first = live(bob, job)
    token = first.context["seen"]
    assert live(bob, job, token).status_code == 204
    start(job)
    assert live(bob, job, token).status_code == 200


def test_an_earlier_attempts_progress_is_not_shown(bob, cast):
    run(bob)
    job = the_job()
    start(job)
    events.emit(job.pk, "progress", {"step": 3, "steps": 8})
    services.job_failed(report_failed(job, "worker_lost", retryable=True))
    assert b"Queued" in live(bob, job).content
    job.refresh_from_db()
    start(job)
    assert b"Step 3" not in live(bob, job).content


def test_a_failure_is_said_with_what_it_cost(bob, cast):
    run(bob)
    job = the_job()
    start(job)
    services.job_failed(report_failed(job, "out_of_memory"))
    page = live(bob, job).content
    assert b"The device ran out of memory." in page
    assert b"It cost nothing." in page


def test_a_run_is_cancelled_on_the_page(bob, cast):
    run(bob)
    job = the_job()
    answer = bob.post(f"/playground/runs/{job.pk}/cancel/", headers=HTMX)
    assert b"Cancelled. It cost nothing." in answer.content
    assert the_job().status == "cancelled"


def test_watching_asks_the_worker_for_previews_and_shows_them(bob, cast):
    run(bob)
    job = the_job()
    key = protocol.watched_key(str(job.pk))
    assert 0 < valkey.client().ttl(key) <= protocol.WATCHED_TTL_S
    start(job)
    events.emit(job.pk, "progress", {"step": 5, "steps": 8})
    put_preview(job)
    page = live(bob, job).content
    assert b"data:image/webp;base64," + base64.b64encode(PICTURE) in page
    assert b"Preview after step 4 of 8" in page


def test_staff_can_switch_previews_off(bob, cast):
    with override_flag(flags.PREVIEWS, active=False):
        run(bob)
        job = the_job()
        start(job)
        events.emit(job.pk, "progress", {"step": 5, "steps": 8})
        put_preview(job)
        page = live(bob, job).content
    assert b"Step 5 of 8" in page
    assert b"pg-preview" not in page
    assert not valkey.client().exists(protocol.watched_key(str(job.pk)))


@pytest.mark.parametrize(
    "odd",
    [
        {"kind": "image/svg+xml"},
        {"body": b"x" * (protocol.PREVIEW_MAX_BYTES + 1)},
        {"steps": 9},
    ],
)
def test_a_preview_that_is_none_is_not_shown(bob, cast, odd):
    run(bob)
    job = the_job()
    start(job)
    events.emit(job.pk, "progress", {"step": 5, "steps": 8})
    put_preview(job, **odd)
    assert b"pg-preview" not in live(bob, job).content


def test_a_strangers_run_is_not_there(bob, charlie, visitor, stranger_api, cast):
    run(bob)
    job = the_job()
    start(job)
    put_preview(job)
    key = protocol.watched_key(str(job.pk))
    valkey.client().delete(key)
    assert live(charlie, job).status_code == 404
    assert charlie.post(f"/playground/runs/{job.pk}/cancel/").status_code == 404
    assert charlie.get(f"{MODEL}runs/?before={job.pk}", headers=HTMX).status_code == 404
    assert stranger_api.get(f"/v1/jobs/{job.pk}/preview").status_code == 404
    assert visitor.get(f"/playground/runs/{job.pk}/").status_code == 302
    assert not valkey.client().exists(key)
    assert b"a red circle" not in charlie.get(f"{MODEL}runs/", headers=HTMX).content


def test_an_api_caller_sees_the_preview_of_its_own_job(api, bob, cast):
    run(bob)
    job = the_job()
    assert api.get(f"/v1/jobs/{job.pk}/preview").status_code == 404
    put_preview(job)
    answer = api.get(f"/v1/jobs/{job.pk}/preview")
    assert (answer["Content-Type"], answer.content) == ("image/webp", PICTURE)


def test_an_api_call_asks_for_no_previews(api, cast):
    body = {"model": cast.ref, "input": {"prompt": "a red circle"}}
    job = api.post("/v1/jobs", body, format="json").json()
    assert not valkey.client().exists(protocol.watched_key(job["id"]))


def test_a_wrong_input_keeps_the_form_and_names_the_field(bob, cast):
    answer = run(bob, **{"in-num_images": "9"})
    assert answer.status_code == 200
    assert answer["HX-Retarget"] == "#playground-form"
    assert b'id="id_in-num_images_error"' in answer.content
    assert b"a red circle" in answer.content
    assert not Job.objects.exists()


def test_a_run_changes_the_nonce_so_that_the_same_input_can_run_again(bob, cast):
    first = run(bob)
    assert first.context["nonce"] != "n1"
    assert b'hx-swap-oob="true"' in first.content
    run(bob, nonce=first.context["nonce"])
    assert Job.objects.count() == 2


def test_history_holds_ones_own_runs_of_this_model_alone(bob, cast, make_job):
    make_job(prompt="by an API key")
    run(bob, **{"in-prompt": "mine"})
    page = bob.get(f"{MODEL}runs/", headers=HTMX).text
    assert "mine" in page
    assert "by an API key" not in page
    other = listed_version(cast.vendor, cast.licence, cast.sam, name="other")
    assert "mine" not in bob.get(f"/models/{other.model.ref}/runs/", headers=HTMX).text


def test_history_goes_back_a_page_at_a_time(bob, cast):
    for number in range(14):
        run(bob, nonce=str(number), **{"in-prompt": f"number {number}."})
    first = bob.get(f"{MODEL}runs/", headers=HTMX)
    assert "number 13." in first.text
    assert "number 1." not in first.text
    assert "Your runs" in first.text
    second = bob.get(f"{MODEL}runs/?before={first.context['earlier']}", headers=HTMX)
    assert "number 1." in second.text
    assert "number 2." not in second.text
    assert "Your runs" not in second.text
    assert second.context["earlier"] == ""


def test_an_earlier_run_fills_the_form_with_its_seed_or_without(bob, cast):
    run(bob, **{"in-prompt": "a teal triangle"})
    job = the_job()
    start(job)
    services.job_finished(report_finished(job))  # which was drawn from seed 7
    page = bob.get(f"{MODEL}?from={job.pk}").text
    assert "a teal triangle" in page
    assert 'alt="Output 1: a teal triangle"' in page
    again = bob.get(f"{MODEL}?from={job.pk}&seed=same").context["form"]
    assert again["seed"].value() == 7
    assert bob.get(f"{MODEL}?from={job.pk}&seed=new").context["form"]["seed"].value() is None


def test_a_run_of_another_model_is_shown_on_its_own_page(bob, cast):
    other = listed_version(cast.vendor, cast.licence, cast.sam, name="other")
    run(bob)
    answer = bob.get(f"/models/{other.model.ref}/?from={the_job().pk}&seed=same")
    assert answer.status_code == 302
    assert answer["Location"] == f"{MODEL}?from={the_job().pk}&seed=same"


def test_code_follows_the_form_and_without_scripts_shows_the_defaults(bob, visitor, cast):
    page = visitor.get(MODEL).text
    assert "&quot;num_images&quot;: 1" in page
    answer = visitor.post(f"{MODEL}quote/", {"in-prompt": "it's", "in-num_images": "3"})
    assert 'id="playground-code-curl" hx-swap-oob="true"' in answer.text
    assert "&quot;num_images&quot;: 3" in answer.text


def test_a_low_balance_is_told_before_the_click(charlie, bob, cast):
    given = {"in-prompt": "a red circle", "in-num_images": "4"}
    low = charlie.post(f"{MODEL}quote/", given).text
    assert "less than this run may cost" in low
    assert "/dashboard/billing/" in low
    assert "less than this run" not in bob.post(f"{MODEL}quote/", given).text


def test_loras_that_fit_are_offered(bob, visitor, cast):
    takes = {**SCHEMA, "properties": {**SCHEMA["properties"], "loras": {"type": "array"}}}
    base = listed_version(cast.vendor, cast.licence, cast.sam, name="base", input_schema=takes)
    free = cast.licence
    from marketplace.catalog.services import licence_create

    free = licence_create(
        org=cast.vendor, slug="free", title="Free", kind="open", text="Do.", revenue_share_bps=8000
    )
    made = {"base": base, "lora": True, "weights_uri": "starter:starter-night"}
    night = listed_version(cast.vendor, free, cast.sam, name="night", **made)
    listed_version(cast.vendor, cast.licence, cast.sam, name="paid", **made)
    page = bob.get("/models/atelier/base/").text
    assert f'<option value="{night}">' in page
    assert "atelier/paid:1" not in page
    given = {
        "nonce": "1",
        "in-prompt": "a red circle",
        "in-loras-0-uri": str(night),
        "in-loras-0-scale": "0.8",
    }
    bob.post("/models/atelier/base/run/", given, headers=HTMX)
    job = the_job()
    assert job.input["loras"] == [{"uri": str(night), "scale": 0.8}]
    assert (
        f'<option value="{night}" selected>' in bob.get(f"/models/atelier/base/?from={job.pk}").text
    )
    wrong = given | {"nonce": "2", "in-loras-0-uri": "atelier/absent:1"}
    answer = bob.post("/models/atelier/base/run/", wrong, headers=HTMX)
    assert b'id="id_in-loras_error"' in answer.content
