"""A form that is refused comes back with what was typed, and says why."""

import pytest


def test_an_address_for_events_is_kept(bob, cast):
    answer = bob.post(
        "/dashboard/webhooks/endpoints/new/",
        {"url": "ftp://typed.example", "events": ["job.failed"]},
    )
    assert answer.status_code == 422
    assert b'value="ftp://typed.example"' in answer.content
    assert not cast.developer.webhook_endpoints.exists()


@pytest.mark.parametrize(
    ("data", "kept"),
    [
        ({"action": "canary", "percent": "100"}, b'value="100"'),
        (
            {"action": "deprecate", "ends_on": "2001-01-01", "note": "Use the next"},
            b'value="Use the next"',
        ),
    ],
)
def test_a_rollout_is_kept(alice, cast, data, kept):
    path = f"/vendor/models/{cast.version.model.name}/rollout/"
    answer = alice.post(path, data | {"version": cast.version.number})
    assert answer.status_code == 422
    if data["action"] == "deprecate":
        assert kept in answer.content
    assert b'role="alert" id="problem"' in answer.content
