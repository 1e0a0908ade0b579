"""What lies in Valkey may have been written by somebody else."""

import pickle

import pytest
from django.core.cache import cache

from marketplace.core import valkey


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("unpickled",))


def test_a_pickle_is_an_error_and_nothing_runs():
    cache.set("x", 1)
    key = cache.make_key("x")
    valkey.client().set(key, pickle.dumps(Bomb()))
    with pytest.raises(ValueError, match=r"."):
        cache.get("x")


@pytest.mark.parametrize("value", [0, 7, "text", [1.5, "a"], {"a": None}, True])
def test_plain_values_come_back(value):
    cache.set("y", value)
    assert cache.get("y") == value
    cache.delete("y")


def test_counters_count():
    cache.set("n", 1)
    assert cache.incr("n") == 2
