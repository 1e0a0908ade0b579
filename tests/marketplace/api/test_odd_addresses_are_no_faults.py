"""What fuzzers send in paths and queries is answered, never a fault."""

import pytest
from django.test import Client

from billing.rating import RatingError, quantity_of


@pytest.mark.parametrize(
    "path",
    [
        "/v1/models/%00/x",
        "/v1/models/a/%00",
        "/v1/models?search=%00",
        "/?q=%00",
        "/models/starter-lab/%00/",
        "/v1/models?cursor=cD1nYXJiYWdl",
        "/v1/models?cursor=%F0%9F",
        "/v1/models?limit=-1",
        "/v1/models?limit=99999999999999999999",
        "/v1/models?task=nonsense",
        "/v1/models/" + "a" * 3000 + "/b",
        "/v1/models/../../etc/passwd",
        "/v1/nowhere",
    ],
)
def test_a_visitor_gets_an_answer(db, path):
    assert Client(raise_request_exception=False).get(path).status_code in (200, 400, 404, 422)


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/keys"])
def test_a_cursor_that_is_none_of_ours_is_refused(api, path):
    answer = api.get(f"{path}?cursor=cD1nYXJiYWdl")
    assert answer.status_code == 422
    assert list(answer.json()["error"]["fields"]) == ["cursor"]


@pytest.mark.parametrize("limit", ["0", "-1", "101", "x", "1.0", "", "٣"])
def test_a_limit_that_is_none_is_refused(api, limit):
    answer = api.get("/v1/jobs", {"limit": limit})
    assert answer.status_code == 422
    assert list(answer.json()["error"]["fields"]) == ["limit"]


@pytest.mark.parametrize("path", ["/v1/models/%00/x", "/openai/v1/models?a=%00"])
def test_programs_are_told_of_a_bad_address_in_json(db, path):
    answer = Client(raise_request_exception=False).get(path)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "bad_request"


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/v1/projects", {"name": 0}, "name"),
        ("/v1/projects", {"name": "x", "monthly_budget_nano_usd": "5"}, "monthly_budget_nano_usd"),
        ("/v1/keys", {"name": "x", "scopes": [1]}, "scopes"),
        ("/v1/keys", {"name": "x", "monthly_budget_nano_usd": True}, "monthly_budget_nano_usd"),
    ],
)
def test_values_of_another_type_are_refused(api, path, body, field):
    answer = api.post(path, body, format="json")
    assert answer.status_code == 422
    assert list(answer.json()["error"]["fields"]) == [field]


def test_whole_floats_are_integers(api, cast):
    body = {"model": cast.ref, "input": {"prompt": "x", "num_inference_steps": 4.0}}
    job = api.post("/v1/jobs", body, format="json").json()
    assert repr(job["input"]["num_inference_steps"]) == "4"


def test_a_quantity_beyond_all_bounds_is_refused_not_a_fault():
    with pytest.raises(RatingError):
        quantity_of("megapixel", {"megapixels": "1e300"})
