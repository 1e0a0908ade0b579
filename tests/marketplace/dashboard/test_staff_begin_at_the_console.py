"""Staff who belong to no organisation are led to the console, everybody else to found one."""

import pytest

from tests.cast import person

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("address", ["/dashboard/", "/dashboard/jobs/"])
def test_staff_without_an_organisation_are_led_to_the_console(client, address):
    client.force_login(person("sam", is_staff=True))
    answer = client.get(address)
    assert (answer.status_code, answer["Location"]) == (302, "/console/")
    assert client.get("/dashboard/organisations/new/").status_code == 200


def test_somebody_else_is_led_to_found_one(client):
    client.force_login(person("zoe"))
    assert client.get("/dashboard/")["Location"] == "/dashboard/organisations/new/"


def test_staff_of_an_organisation_see_its_pages(client, cast):
    cast.bob.is_staff = True
    cast.bob.save()
    client.force_login(cast.bob)
    assert client.get("/dashboard/").status_code == 200
