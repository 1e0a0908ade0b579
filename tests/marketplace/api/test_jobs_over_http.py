"""API v1 jobs as a developer sees them."""

from dataclasses import replace

import pytest

from billing.selectors import balance_of
from marketplace.core.money import to_nano
from marketplace.jobs import services
from marketplace.jobs.models import Job
from tests.cast import report_finished

BODY = {"input": {"prompt": "a red circle"}}


def submit(api, cast, headers=None, **changes):
    body = {"model": cast.ref, **BODY, **changes}
    return api.post("/v1/jobs", body, format="json", headers=headers or {})


def test_a_submission_is_accepted_with_its_quote(api, cast):
    answer = submit(api, cast)
    assert answer.status_code == 202
    job = answer.json()
    assert job["status"] == "queued"
    assert job["quote_nano_usd"] == 4_000_000
    assert answer["X-Mercato-Quote-Nano-Usd"] == "4000000"
    assert answer["Location"].endswith(job["id"])
    assert api.get(f"/v1/jobs/{job['id']}").json()["queue_position"] == 0


def test_outputs_say_what_they_are(api, cast):
    job = Job.objects.get(pk=submit(api, cast).json()["id"])
    report = report_finished(job)
    flagged = [replace(output, nsfw=True) for output in report.outputs]
    services.job_finished(replace(report, outputs=flagged))
    (output,) = api.get(f"/v1/jobs/{job.pk}").json()["outputs"]
    assert (output["width"], output["height"], output["content_type"]) == (128, 128, "image/png")
    assert output["nsfw"] is True


def test_an_ended_job_carries_its_charge_and_signed_outputs(api, cast):
    job = Job.objects.get(pk=submit(api, cast).json()["id"])
    services.job_finished(report_finished(job))
    answer = api.get(f"/v1/jobs/{job.pk}")
    assert answer["X-Mercato-Charge-Nano-Usd"] == "4000000"
    body = answer.json()
    assert (body["status"], body["charge_nano_usd"]) == ("succeeded", 4_000_000)
    assert body["result"] == {"seed": 7}
    (output,) = body["outputs"]
    assert "/files/" in output["url"]
    picture = api.get(output["url"])
    assert picture.status_code == 200
    assert int(picture["Content-Length"]) == output["size"]


def test_the_same_idempotency_key_makes_one_job(api, cast):
    headers = {"Idempotency-Key": "order-1"}
    first, second = submit(api, cast, headers), submit(api, cast, headers)
    assert first.json()["id"] == second.json()["id"]
    assert second.status_code == 200
    assert second["Idempotent-Replayed"] == "true"
    assert Job.objects.count() == 1
    assert balance_of(cast.developer.pk).held_nano == 4_000_000


def test_an_idempotency_key_is_not_for_two_requests(api, cast):
    headers = {"Idempotency-Key": "order-1"}
    submit(api, cast, headers)
    answer = submit(api, cast, headers, input={"prompt": "a blue square"})
    assert answer.status_code == 422
    assert answer.json()["error"]["code"] == "idempotency_key_reused"
    assert Job.objects.count() == 1


def test_a_bad_input_names_the_field(api, cast):
    answer = submit(api, cast, input={"prompt": "x", "num_images": 9})
    assert answer.status_code == 422
    error = answer.json()["error"]
    assert error["code"] == "invalid_input"
    assert list(error["fields"]) == ["input.num_images"]
    assert answer.json()["request_id"] == answer["X-Request-Id"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'"x"',
        b"null",
        b'{"model": 1, "input": {}}',
        b'{"model": "a/b"}',
        b'{"input": {}}',
        b'{"model": "a\\u0000/b", "input": {}}',
        b'{"model": "a/b", "input": {"prompt": "\\ud800"}}',
        b'{"model": "a/b", "input": {"prompt": NaN}}',
        b'{"model": "a/b", "input": {}, "extra": 1}',
        b"[" * 2000,
        b"\xff\xfe",
    ],
)
def test_a_bad_body_is_refused_without_a_fault(api, cast, body):
    answer = api.generic("POST", "/v1/jobs", body, content_type="application/json")
    assert 400 <= answer.status_code < 500, answer.content
    assert answer.json()["error"]["message"]
    assert Job.objects.count() == 0


def test_a_form_is_not_understood(api, cast):
    answer = api.generic(
        "POST", "/v1/jobs", b"a=1", content_type="application/x-www-form-urlencoded"
    )
    assert answer.status_code == 415
    assert "Content-Type: application/json" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("body", "said"), [("[]", "an array"), ('"a"', "a string"), ("1", "a number")]
)
def test_a_body_that_is_no_object_is_told_so(api, cast, body, said):
    answer = api.generic("POST", "/v1/jobs", body, content_type="application/json")
    assert answer.status_code == 422
    assert answer.json()["error"]["message"] == f"Expected an object, but got {said}."


def test_an_unknown_model_is_not_found(api, cast):
    answer = submit(api, cast, model="atelier/absent")
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "model_not_found"


def test_without_money_the_answer_is_402_with_the_balance(stranger_api, cast):
    answer = submit(stranger_api, cast)
    assert answer.status_code == 402
    error = answer.json()["error"]
    assert error["code"] == "insufficient_funds"
    assert error["available_nano_usd"] == 0
    assert error["quote_nano_usd"] == 4_000_000
    assert Job.objects.count() == 0


def test_a_queued_job_is_cancelled_at_once_and_free(api, cast):
    job_id = submit(api, cast).json()["id"]
    answer = api.post(f"/v1/jobs/{job_id}/cancel")
    assert answer.status_code == 200
    assert (answer.json()["status"], answer.json()["charge_nano_usd"]) == ("cancelled", 0)
    assert balance_of(cast.developer.pk).available_nano == to_nano("1")
    assert api.post(f"/v1/jobs/{job_id}/cancel").status_code == 200


def test_a_finished_job_cannot_be_cancelled(api, cast):
    job = Job.objects.get(pk=submit(api, cast).json()["id"])
    services.job_finished(report_finished(job))
    answer = api.post(f"/v1/jobs/{job.pk}/cancel")
    assert answer.status_code == 409
    assert answer.json()["error"]["code"] == "already_ended"


def test_lists_are_paged_by_cursor(api, cast):
    made = [submit(api, cast).json()["id"] for _ in range(5)]
    first = api.get("/v1/jobs?limit=2").json()
    second = api.get(first["next"]).json()
    third = api.get(second["next"]).json()
    seen = [job["id"] for page in (first, second, third) for job in page["results"]]
    assert seen == made[::-1]
    assert third["next"] is None


def test_lists_filter_by_status(api, cast):
    submit(api, cast)
    assert len(api.get("/v1/jobs?status=queued").json()["results"]) == 1
    assert api.get("/v1/jobs?status=succeeded").json()["results"] == []
    assert api.get("/v1/jobs?status=nonsense").status_code == 422


def test_a_list_costs_the_same_queries_however_long(api, cast, django_assert_max_num_queries):
    for _ in range(6):
        submit(api, cast)
    with django_assert_max_num_queries(5):
        assert len(api.get("/v1/jobs").json()["results"]) == 6


@pytest.mark.parametrize("route", ["", "/cancel", "/events"])
def test_a_stranger_finds_nothing(api, stranger_api, cast, route):
    job_id = submit(api, cast).json()["id"]
    method = stranger_api.post if route == "/cancel" else stranger_api.get
    assert method(f"/v1/jobs/{job_id}{route}").status_code == 404
    assert Job.objects.get(pk=job_id).status == "queued"
    assert stranger_api.get("/v1/jobs").json()["results"] == []


def test_a_quote_reserves_nothing(api, cast):
    answer = api.post(
        f"/v1/models/{cast.ref}/quote", {"input": {"prompt": "x", "num_images": 3}}, format="json"
    )
    assert answer.status_code == 200
    assert answer.json()["quote_nano_usd"] == 12_000_000
    assert answer.json()["quote_usd"] == "$0.012"
    assert answer.json()["input"]["width"] == 128
    assert balance_of(cast.developer.pk).held_nano == 0


def test_a_price_above_what_the_caller_allows_is_refused(api, cast):
    answer = submit(api, cast, max_charge_nano_usd=3_999_999)
    assert answer.status_code == 422
    assert answer.json()["error"]["code"] == "quote_above_limit"
    assert Job.objects.count() == 0
    assert submit(api, cast, max_charge_nano_usd=4_000_000).status_code == 202


def test_a_body_that_is_no_object_is_refused_without_the_name_of_a_field(api):
    answer = api.post("/v1/jobs", [], format="json")
    assert answer.status_code == 422
    message = answer.json()["error"]["message"]
    assert message == "Expected an object, but got an array."
