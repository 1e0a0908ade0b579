"""A page that goes on asking by htmx after its person has signed out is loaded again as a whole."""

import pytest

HTMX = {"HX-Request": "true"}


@pytest.mark.django_db
@pytest.mark.parametrize(
    "path", ["/dashboard/jobs/", "/dashboard/jobs/live/", "/vendor/workers/", "/console/fleet/"]
)
def test_a_poll_of_nobody_gets_no_sign_in_page(client, path):
    answer = client.get(path, headers=HTMX)
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer["HX-Refresh"] == "true"


def test_a_poll_of_staff_without_a_second_factor_loads_the_page_again(client, cast, settings):
    settings.CONSOLE_SECOND_FACTOR = True
    client.force_login(cast.sam)
    assert client.get("/console/fleet/", headers=HTMX)["HX-Refresh"] == "true"


@pytest.mark.django_db
def test_without_htmx_a_visitor_is_sent_to_sign_in(client):
    assert "next=/dashboard/jobs/" in client.get("/dashboard/jobs/")["Location"]


def test_a_poll_of_a_member_is_answered(bob):
    answer = bob.get("/dashboard/jobs/live/", headers=HTMX)
    assert answer.status_code == 200
    assert "HX-Refresh" not in answer
