"""What people write into dates and cursors ends in words or in nothing, and never in a fault."""

import pytest

from marketplace.core.ids import parse_number
from tests.cast import staff_sign_in

FAR = "9999-12-31"


@pytest.mark.parametrize("text", ["", "-1", "1e3", "²", "٣", "9" * 19, "9" * 5000])
def test_no_row_has_such_a_number(text):
    assert parse_number(text) is None


def test_the_largest_number_is_one():
    assert parse_number(str(2**63 - 1)) == 2**63 - 1
    assert parse_number(str(2**63)) is None


def test_no_version_is_withdrawn_after_the_last_day(alice, cast):
    path = f"/vendor/models/{cast.version.model.name}/rollout/"
    data = {"action": "deprecate", "version": cast.version.number, "ends_on": FAR}
    answer = alice.post(path, data)
    assert answer.status_code == 422
    assert b"between the years 2000 and 2200" in answer.content


def test_no_price_lasts_beyond_the_last_day(alice, cast):
    name = cast.version.model.name
    answer = alice.post(
        f"/vendor/models/{name}/versions/{cast.version.number}/price/",
        {"unit": "image", "scheme": "flat", "unit_price": "1", "ends_on": FAR},
    )
    assert answer.status_code == 422
    assert b"between the years 2000 and 2200" in answer.content


@pytest.mark.parametrize("path", ["/console/ledger/accounts/?after=", "/console/audit/?before="])
@pytest.mark.parametrize("number", ["9" * 25, "9" * 5000])
def test_the_console_bears_any_cursor(client, cast, path, number):
    staff_sign_in(client, cast.sam)
    assert client.get(path + number).status_code == 200
