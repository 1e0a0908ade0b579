"""WORKER_ID is part of keys and of the console's addresses: slashes and spaces are refused."""

import pytest

from inference.worker.settings import WorkerSettings


@pytest.mark.parametrize("name", ["rack/1", "two words", ".", "-a", "a" * 121])
def test_a_name_that_breaks_addresses_is_refused(name):
    with pytest.raises(ValueError, match="WORKER_ID must be"):
        WorkerSettings.from_env({"WORKER_ID": name})


@pytest.mark.parametrize("name", ["gpu-box-1", "w@host:1", "a" * 120])
def test_ordinary_names_are_taken(name):
    assert WorkerSettings.from_env({"WORKER_ID": name}).worker_id == name


def test_a_worker_without_a_name_gets_one_that_fits():
    assert WorkerSettings.from_env({}).worker_id
