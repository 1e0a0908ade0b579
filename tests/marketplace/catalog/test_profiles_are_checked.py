"""A version's profile is checked when it is registered, for it never changes afterwards."""

import pytest

from marketplace.core.errors import InvalidInput
from tests.cast import listed_version


@pytest.mark.parametrize(
    ("profile", "says"),
    [
        ({"quality": "best"}, "quality must be one of exact, high, fast"),
        ({"quality": None}, "quality must be one of exact, high, fast"),
        ({"optimisations": ["cache"]}, "optimisations must be an object"),
        ({"optimisations": {"cache": "yes"}}, "optimisations.cache must be an object"),
        ({"defaults": 3}, "defaults must be an object"),
        ({"optimizations": {}}, "profile has no optimizations"),
        (["fast"], "profile must be an object"),
    ],
)
def test_a_wrong_profile_names_what_is_wrong(cast, profile, says):
    with pytest.raises(InvalidInput, match=says) as refusal:
        listed_version(cast.vendor, cast.licence, cast.sam, name="odd", profile=profile)
    assert list(refusal.value.fields) == ["profile"]


@pytest.mark.parametrize(
    "profile",
    [
        None,
        {},
        {"quality": "fast"},
        {"optimisations": None},
        {"optimisations": {"cache": {"threshold": 0.1}, "compile": False}, "defaults": {}},
    ],
)
def test_a_right_one_is_kept(cast, profile):
    version = listed_version(cast.vendor, cast.licence, cast.sam, name="plain", profile=profile)
    assert version.profile == (profile or {})
