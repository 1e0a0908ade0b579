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
    assert Client(raise_request_exception=False).get(path).status_code in (200, 400, 404)


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/keys"])
def test_a_cursor_of_somebody_elses_is_not_found(api, path):
    answer = api.get(f"{path}?cursor=cD1nYXJiYWdl")
    assert answer.status_code == 404
    assert answer.json()["error"]["message"] == "Invalid cursor"


def test_whole_floats_are_integers(api, cast):
    body = {"model": cast.ref, "input": {"prompt": "x", "num_inference_steps": 4.0}}
    job = api.post("/v1/jobs", body, format="json").json()
    assert repr(job["input"]["num_inference_steps"]) == "4"


def test_a_quantity_beyond_all_bounds_is_refused_not_a_fault():
    with pytest.raises(RatingError):
        quantity_of("megapixel", {"megapixels": "1e300"})
