"""The playground: a form from the schema, a quote before, a job after."""

from billing.selectors import balance_of
from marketplace.jobs.models import Job

MODEL = "/models/atelier/sketch/"


def given(**changes):
    return {"nonce": "n1", "in-prompt": "a red circle", "in-num_images": "2", **changes}


def test_the_form_has_a_field_for_each_input_with_its_bounds(visitor, cast):
    page = visitor.get(MODEL).content.decode()
    assert '<textarea name="in-prompt"' in page
    assert 'name="in-num_images" value="1" min="1" max="4"' in page
    assert 'name="in-seed" min="0"' in page
    assert "Sign in to run" in page


def test_a_visitor_gets_a_quote_as_a_fragment(visitor, cast):
    answer = visitor.post(f"{MODEL}quote/", given(), headers={"HX-Request": "true"})
    assert answer.status_code == 200
    assert b"$0.008" in answer.content
    assert b"<html" not in answer.content


def test_a_quote_names_the_field_that_is_wrong(visitor, cast):
    answer = visitor.post(f"{MODEL}quote/", given(**{"in-num_images": "9"}))
    assert b"Num images" in answer.content
    assert b"Costs at most" not in answer.content


def test_running_makes_one_job_however_often_the_button_is_pressed(bob, cast):
    first = bob.post(f"{MODEL}run/", given())
    again = bob.post(f"{MODEL}run/", given())
    assert first.status_code == 302
    assert again["Location"] == first["Location"]
    job = Job.objects.get()
    assert first["Location"] == f"/dashboard/jobs/{job.pk}/"
    assert job.user == cast.bob
    assert job.api_key is None
    assert job.input["num_images"] == 2
    assert balance_of(cast.developer.pk).held_nano == 8_000_000


def test_another_input_on_the_same_page_is_another_job(bob, cast):
    bob.post(f"{MODEL}run/", given())
    bob.post(f"{MODEL}run/", given(**{"in-prompt": "a blue square"}))
    assert Job.objects.count() == 2


def test_a_wrong_input_is_shown_at_its_field_and_costs_nothing(bob, cast):
    answer = bob.post(f"{MODEL}run/", given(**{"in-prompt": ""}))
    assert answer.status_code == 422
    assert b'id="id_in-prompt_error"' in answer.content
    assert not Job.objects.exists()
    assert balance_of(cast.developer.pk).held_nano == 0


def test_a_balance_that_does_not_suffice_is_said_plainly(charlie, cast):
    answer = charlie.post(f"{MODEL}run/", given())
    assert answer.status_code == 422
    assert b"only $0.00 is available" in answer.content
    assert not Job.objects.exists()


def test_an_earlier_job_fills_the_form_of_its_own_organisation_alone(bob, charlie, make_job):
    job = make_job("queued", prompt="a teal triangle")
    assert b"a teal triangle" in bob.get(f"{MODEL}?from={job.pk}").content
    assert charlie.get(f"{MODEL}?from={job.pk}").status_code == 404


def test_the_billing_role_may_not_run(dora, cast):
    assert dora.post(f"{MODEL}run/", given()).status_code == 403
    assert not Job.objects.exists()
