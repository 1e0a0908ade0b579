"""Keys beyond the first page are reached."""

from marketplace.accounts.services import api_key_create
from marketplace.dashboard.views import keys


def test_keys_beyond_the_first_page_are_reached(bob, cast, monkeypatch):
    monkeypatch.setattr(keys, "_KEYS", 2)
    for number in range(3):
        api_key_create(org=cast.developer, created_by=cast.bob, name=f"one of many {number}")
    first = bob.get("/dashboard/keys/")
    assert "one of many 2" in first.content.decode()
    assert "one of many 0" not in first.content.decode()
    assert "one of many 0" in bob.get(first.context["older"]).content.decode()
