"""The listing wizard from an empty account to review, step by step, and what it refuses."""

import json

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from marketplace.accounts.models import Membership
from marketplace.catalog import listing
from marketplace.catalog import services as services_of
from marketplace.catalog.listing_models import ListingDraft, TestRun
from marketplace.catalog.models import Model, Version
from marketplace.catalog.sample_models import SampleOutput
from marketplace.catalog.services import version_decide
from marketplace.core.errors import WrongState
from marketplace.jobs import services
from marketplace.jobs.models import File, Job
from tests.cast import PIXEL, SCHEMA, open_licence, report_finished, report_started

HERE = "/vendor/models/dusk/listing/"
DIGEST = "sha256:" + "a" * 64
ABOUT = {
    "name": "dusk",
    "title": "Dusk",
    "task": "text-to-image",
    "category": "illustration",
    "visibility": "public",
}
INPUTS = {"family": "flux", "hardware_class": "small", "max_engine_s": "60"}


def follow(client, step, data=None):
    answer = client.post(f"{HERE}{step}/", data or {})
    assert answer.status_code == 302, answer.content.decode()[-3000:]
    return answer["Location"]


def finish(job_id=None):
    job = Job.objects.select_related("version__model__org").order_by("-created_at").first()
    services.job_started(report_started(job))
    services.job_finished(report_finished(job, count=job.input.get("num_images", 1)))
    job.refresh_from_db()
    return job


@pytest.fixture
def filled(charlie, cast):
    """Charlie's draft with weights, inputs and terms."""
    licence = open_licence(cast.stranger, share=8500, royalty=0)
    charlie.post("/vendor/models/new/", ABOUT)
    follow(charlie, "weights", {"uri": "hub://someone/dusk@main", "digest": DIGEST})
    follow(charlie, "inputs", {**INPUTS, "input_schema": json.dumps(SCHEMA)})
    follow(charlie, "terms", {"licence": str(licence.pk)})
    return licence


@pytest.fixture
def tested(charlie, filled):
    follow(charlie, "test", {"in-prompt": "a red circle", "in-num_images": "2"})
    return finish()


def test_a_vendor_goes_from_nothing_to_review(charlie, cast):
    licence = open_licence(cast.stranger, share=8500, royalty=0)
    made = charlie.post("/vendor/models/new/", ABOUT)
    assert made["Location"] == f"{HERE}weights/"
    where = follow(charlie, "weights", {"uri": "hub://someone/dusk@main", "digest": DIGEST})
    assert where == f"{HERE}inputs/"
    where = follow(charlie, "inputs", {**INPUTS, "input_schema": json.dumps(SCHEMA)})
    assert where == f"{HERE}terms/"
    assert follow(charlie, "terms", {"licence": str(licence.pk)}) == f"{HERE}test/"
    assert Version.objects.filter(model__name="dusk").count() == 0
    follow(charlie, "test", {"in-prompt": "a red circle"})
    assert "Waiting for a worker" in charlie.get(f"{HERE}test/").content.decode()
    job = finish()
    page = charlie.get(f"{HERE}test/").content.decode()
    assert "1.2 s on the device" in page
    assert "a test run is free" in page
    picture = job.outputs.get()
    follow(charlie, "samples", {"action": "keep", "id": str(picture.pk)})
    assert SampleOutput.objects.get().prompt == "a red circle"
    where = follow(charlie, "price", {"unit": "image", "unit_price": "0.01"})
    assert where == f"{HERE}review/"
    follow(charlie, "review")
    version = Version.objects.get(model__name="dusk")
    assert version.status == "submitted"
    assert "In review" in charlie.get(f"{HERE}review/").content.decode()
    version_decide(version=version, after="draft", by=cast.sam, note="Blurred samples.")
    page = charlie.get(f"{HERE}review/").content.decode()
    assert "Staff sent it back" in page
    assert "Blurred samples." in page


def test_the_wizard_goes_on_where_it_was_left(charlie, filled):
    assert charlie.get(HERE)["Location"] == f"{HERE}test/"
    page = charlie.get(f"{HERE}test/").content.decode()
    assert "4 of 8 steps done" in page


def test_a_test_run_costs_nothing_and_is_explained(charlie, tested):
    assert tested.charge_nano == 0
    assert tested.quote_nano == 0
    assert tested.price.unit_price == 0
    assert TestRun.objects.get().job_id == tested.pk
    charge = charlie.get(f"/dashboard/jobs/{tested.pk}/").content.decode()
    assert "$0.00" in charge


def test_test_runs_are_limited_by_the_hour(charlie, filled, settings):
    settings.TEST_RUNS_PER_HOUR = 1
    follow(charlie, "test", {"in-prompt": "one"})
    answer = charlie.post(f"{HERE}test/", {"in-prompt": "two"})
    assert answer.status_code == 422
    assert "1 test runs an hour are free; try again in" in answer.content.decode()
    assert Job.objects.count() == 1


def test_what_was_tested_is_what_is_reviewed(charlie, tested):
    draft = ListingDraft.objects.get()
    first = draft.version
    schema = {**SCHEMA, "properties": {**SCHEMA["properties"], "seed": {"type": "integer"}}}
    follow(charlie, "inputs", {**INPUTS, "input_schema": json.dumps(schema)})
    draft.refresh_from_db()
    assert draft.version is None
    answer = charlie.post(f"{HERE}review/", follow=True)
    assert "“test” is not done" in answer.content.decode()
    follow(charlie, "test", {"in-prompt": "again"})
    draft.refresh_from_db()
    assert draft.version.number == first.number + 1
    assert list(draft.version.input_schema["properties"]["seed"]) == ["type", "x-order"]


def test_saving_a_step_unchanged_keeps_the_test_runs(charlie, tested):
    follow(charlie, "inputs", {**INPUTS, "input_schema": json.dumps(SCHEMA)})
    assert ListingDraft.objects.get().version == tested.version


def test_a_submitted_version_cannot_be_changed(charlie, tested):
    follow(charlie, "samples", {"action": "keep", "id": str(tested.outputs.first().pk)})
    follow(charlie, "price", {"unit": "image", "unit_price": "0.01"})
    follow(charlie, "review")
    answer = charlie.post(f"{HERE}weights/", {"uri": "hub://someone/else", "digest": DIGEST})
    assert answer.status_code == 422
    assert "Staff are reviewing this version" in answer.content.decode()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"type": "object",\n "properties": }', "line 2, column 16"),
        (
            '{"type": "object", "properties": {"width": {"type": "integer", "minimum": "x"}}}',
            "properties.width.minimum",
        ),
        (
            '{"type": "object", "properties": {"seed": {"type": "integer", "default": "no"}}}',
            "properties.seed.default",
        ),
        (
            '{"type": "object", "properties": {"a": {"type": "string", "pattern": "x"}}}',
            "properties.a.pattern",
        ),
        ('{"type": "object", "required": ["b"], "properties": {}}', "b is required"),
    ],
)
def test_each_problem_of_a_schema_has_its_path(charlie, filled, text, said):
    preview = charlie.post(f"{HERE}inputs/preview/", {"input_schema": text}).content.decode()
    assert preview.count(said) == 1
    answer = charlie.post(f"{HERE}inputs/", {**INPUTS, "input_schema": text})
    assert answer.status_code == 422
    assert said in answer.content.decode()


def test_the_preview_is_the_form_that_callers_will_see(charlie, filled):
    text = json.dumps({"type": "object", "properties": {"mood": {"enum": ["calm", "wild"]}}})
    preview = charlie.post(f"{HERE}inputs/preview/", {"input_schema": text}).content.decode()
    assert "<select" in preview
    assert "wild" in preview


def test_loras_are_shown_as_callers_see_them_and_a_test_run_takes_none(charlie, filled, cast):
    loras = {"type": "array", "maxItems": 2}
    schema = {**SCHEMA, "properties": {**SCHEMA["properties"], "loras": loras}}
    text = json.dumps(schema)
    preview = charlie.post(f"{HERE}inputs/preview/", {"input_schema": text})
    assert 'name="preview-loras-0-uri"' in preview.text
    shown = charlie.post(f"{HERE}inputs/", {**INPUTS, "input_schema": text, "action": "preview"})
    assert 'name="preview-loras-0-uri"' in shown.text
    follow(charlie, "inputs", {**INPUTS, "input_schema": text})
    assert 'name="preview-loras-0-uri"' in charlie.get(f"{HERE}inputs/").text
    assert 'name="in-loras-0-uri"' in charlie.get(f"{HERE}test/").text
    given = {"in-prompt": "x", "in-loras-0-uri": "nobody/nothing:1", "in-loras-0-scale": "1"}
    refused = charlie.post(f"{HERE}test/", given)
    assert refused.status_code == 422
    assert 'id="id_in-loras_error"' in refused.text


def test_a_model_that_takes_a_picture_can_be_tested_and_listed(charlie, filled):
    picture = {"type": "string", "format": "file-id"}
    properties = {**SCHEMA["properties"], "image": picture, "mask_image": picture}
    schema = {**SCHEMA, "required": ["prompt", "image"], "properties": properties}
    text = json.dumps(schema)
    preview = charlie.post(f"{HERE}inputs/preview/", {"input_schema": text}).text
    assert 'type="file" name="preview-image-file"' in preview
    follow(charlie, "inputs", {**INPUTS, "input_schema": text})
    page = charlie.get(f"{HERE}test/").text
    assert 'enctype="multipart/form-data"' in page
    assert 'type="file" name="in-image-file"' in page
    assert "playground-files.js" in page

    def sent(body):
        return {"in-prompt": "x", "in-image-file": SimpleUploadedFile("a.png", body)}

    refused = charlie.post(f"{HERE}test/", sent(b"no picture"))
    assert refused.status_code == 422
    assert "It must be a PNG, JPEG or WebP picture." in refused.text
    assert not Job.objects.exists()
    follow(charlie, "test", sent(PIXEL))
    image = File.objects.get(job=None)
    job = finish()
    assert job.input["image"] == str(image.pk)
    follow(charlie, "samples", {"action": "keep", "id": str(job.outputs.get().pk)})
    follow(charlie, "price", {"unit": "image", "unit_price": "0.01"})
    follow(charlie, "review")
    assert Version.objects.get(model__name="dusk").status == "submitted"


def test_a_family_has_a_template(charlie, filled):
    page = charlie.get(f"{HERE}inputs/?template=wan").content.decode()
    assert "num_frames" in page


def test_the_split_of_a_dollar_names_everybody(charlie, filled, cast):
    data = {"licence": str(filled.pk), "base": cast.ref}
    page = charlie.post(f"{HERE}terms/preview/", data).content.decode()
    for line in ("$0.75", "$0.10", "$0.15", "royalty for atelier/sketch:1"):
        assert line in page


def test_an_overcommitted_chain_is_refused_with_who_takes_what(charlie, filled, cast):
    small = open_licence(cast.stranger, share=500, royalty=0)
    data = {"licence": str(small.pk), "base": cast.ref}
    answer = charlie.post(f"{HERE}terms/", data)
    assert answer.status_code == 422
    page = answer.content.decode()
    assert "owed 10 % of each charge, but the licence shares out only 5 %" in page
    assert "takes 10 % for atelier/sketch:1" in page


def test_the_margin_is_shown_against_the_measured_cost(charlie, tested, settings):
    settings.GPU_COST_USD_PER_HOUR = {"small": "3.60"}  # a tenth of a cent a second
    data = {"unit": "request", "unit_price": "0.01"}
    page = charlie.post(f"{HERE}price/preview/", data).content.decode()
    assert "1.2 s at $3.60 an hour" in page
    assert "88.0 %" in page
    assert "$0.0088" in page
    loss = charlie.post(f"{HERE}price/preview/", {**data, "unit_price": "0.0001"})
    assert "costs more than the caller pays" in loss.content.decode()


def test_a_stranger_sees_nothing_of_a_draft(alice, charlie, tested):
    version = tested.version
    for step in ("", "about/", "weights/", "inputs/", "terms/", "test/", "samples/", "review/"):
        assert alice.get(f"{HERE}{step}").status_code == 404, step
    picture = {"action": "keep", "id": str(tested.outputs.first().pk)}
    assert alice.post(f"{HERE}samples/", picture).status_code == 404
    assert alice.post(f"{HERE}test/", {"in-prompt": "x"}).status_code == 404
    assert alice.get(f"/dashboard/jobs/{tested.pk}/").status_code == 404
    assert version.samples.count() == 0


def test_an_output_of_somebody_else_is_no_sample(charlie, tested, make_job, cast):
    theirs = make_job("succeeded")
    picture = {"action": "keep", "id": str(theirs.outputs.first().pk)}
    answer = charlie.post(f"{HERE}samples/", picture, follow=True)
    assert "There is no such output of a test run." in answer.content.decode()
    assert SampleOutput.objects.count() == 0


def test_a_draft_is_nothing_that_others_can_call(api, tested):
    answer = api.post(
        "/v1/jobs", {"model": "charlie/dusk", "input": {"prompt": "x"}}, format="json"
    )
    assert answer.status_code == 404


def test_a_member_for_billing_cannot_list(dora, cast):
    assert dora.post("/vendor/models/new/", ABOUT).status_code == 403
    assert Model.objects.filter(name="dusk").count() == 0


def test_a_listed_model_begins_its_next_version_from_the_last(alice, cast):
    where = alice.get("/vendor/models/sketch/listing/")["Location"]
    assert where == "/vendor/models/sketch/listing/test/"
    page = alice.get("/vendor/models/sketch/listing/weights/").content.decode()
    assert "starter:starter-image" in page


def test_to_look_at_a_listing_writes_nothing(alice, cast):
    for step in ("", "about/", "weights/", "terms/", "review/"):
        assert alice.get(f"/vendor/models/sketch/listing/{step}").status_code in (200, 302)
    assert ListingDraft.objects.count() == 0
    alice.post("/vendor/models/sketch/listing/")
    assert ListingDraft.objects.count() == 1


def test_a_developer_reads_the_terms_and_the_price(charlie, tested, cast, client):
    Membership.objects.create(org=cast.stranger, user=cast.bob, role="developer")
    client.force_login(cast.bob)
    session = client.session
    session["organisation_id"] = str(cast.stranger.pk)
    session.save()
    for step in ("terms", "price"):
        page = client.get(f"{HERE}{step}/")
        assert "members for billing change it" in page.content.decode(), step
        assert client.post(f"{HERE}{step}/", {}).status_code == 403


def test_nobody_submits_what_was_not_tested(charlie, filled, cast):
    draft = ListingDraft.objects.get()
    version = listing.version_ensure(draft=draft)
    services_of.price_set(version=version, unit="image", unit_price=1)
    with pytest.raises(WrongState, match="Run a test"):
        services_of.version_submit(version=version, by=cast.charlie)
    assert charlie.post("/vendor/models/dusk/versions/1/submit/").status_code == 404


def test_the_only_licence_is_chosen_and_its_split_drawn_at_once(charlie, cast):
    open_licence(cast.stranger, share=8500, royalty=0)
    charlie.post("/vendor/models/new/", ABOUT)
    page = charlie.get(f"{HERE}terms/").content.decode()
    assert "$0.85" in page
    assert "Choose a licence to see" not in page


def test_an_address_that_ships_nothing_is_refused_by_what_does(charlie, cast):
    charlie.post("/vendor/models/new/", ABOUT)
    answer = charlie.post(f"{HERE}weights/", {"uri": "starter:nope"})
    assert answer.status_code == 422
    page = answer.content.decode()
    assert "Nothing ships under this address. There is starter:starter-image" in page
    assert "hexadecimal digits; `python" not in page


def test_what_ships_begins_with_inputs_that_it_can_answer(charlie, cast):
    charlie.post("/vendor/models/new/", ABOUT)
    follow(charlie, "weights", {"uri": "starter:starter-image"})
    form = charlie.get(f"{HERE}inputs/").context["form"]
    schema = json.loads(form.initial["input_schema"])
    assert schema["properties"]["width"] == {
        "type": "integer",
        "title": "Width",
        "const": 128,
        "default": 128,
    }
    assert schema["properties"]["num_inference_steps"]["default"] == 8
    follow(charlie, "inputs", {**INPUTS, "input_schema": form.initial["input_schema"]})


def test_choices_are_named_as_people_say_them(charlie, tested):
    page = charlie.get(f"{HERE}price/").content.decode()
    assert "GPU second" in page
    assert "Gpu Second" not in page
    assert "Text to image" in charlie.get("/vendor/models/new/").content.decode()
