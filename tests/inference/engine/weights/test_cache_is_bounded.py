"""The cache keeps its bound: the least recently used goes first, and what is in use never."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from inference.engine.errors import WeightsUnavailableError
from inference.engine.weights import Model, WeightsStore, digest_of
from inference.engine.weights.eviction import evict_model
from tests.inference.engine.weights.conftest import WEIGHTS, Bucket
from tests.inference.engine.weights.models import write_model
from tests.inference.process import ROOT, bare_environment

MakeStore = Callable[..., WeightsStore]
MIB = 2**20
BOUND = 7 * MIB
"""Room for two models of 3 MiB, and not for three."""


@pytest.fixture
def models(bucket: Bucket, tmp_path: Path) -> list[Model]:
    """Three models of 3 MiB each that share their small files but for one."""
    found = []
    for seed in range(3):
        directory = write_model(tmp_path / f"model-{seed}", 3, seed)
        uri = bucket.upload(directory, f"bounded/{seed}")
        found.append(Model(uri=uri, digest=digest_of(directory), family="flux"))
    return found


def _hex(model: Model) -> str:
    return str(model.digest).removeprefix("sha256:")


def _use(store: WeightsStore, model: Model) -> None:
    store.open(model)
    store.release(model)


def _here(store: WeightsStore) -> set[str]:
    return set(store.cache.digests())


def test_the_least_recently_used_goes_first(
    bucket: Bucket, models: list[Model], make_store: MakeStore
) -> None:
    store, (a, b, c) = make_store(**bucket.settings, cache_bytes=BOUND), models
    for model in (a, b, a, c):
        _use(store, model)
    assert _here(store) == {_hex(a), _hex(c)}
    assert store.cache.used() <= BOUND
    assert digest_of(store.cache.model_path(_hex(a))) == a.digest
    assert not store.cache.model_path(_hex(b)).exists()


def test_what_is_in_use_stays_though_it_is_the_oldest(
    bucket: Bucket, models: list[Model], make_store: MakeStore
) -> None:
    store, (a, b, c) = make_store(**bucket.settings, cache_bytes=BOUND), models
    store.open(a)
    _use(store, b)
    _use(store, c)
    assert _here(store) == {_hex(a), _hex(c)}


def test_where_all_is_in_use_the_next_is_refused_and_nothing_is_lost(
    bucket: Bucket, models: list[Model], make_store: MakeStore
) -> None:
    store, (a, b, c) = make_store(**bucket.settings, cache_bytes=BOUND), models
    store.open(a)
    store.open(b)
    with pytest.raises(WeightsUnavailableError, match=r"the cache has \d+ in use"):
        store.open(c)
    assert _here(store) == {_hex(a), _hex(b)}
    store.release(a)
    assert store.open(c) is not None
    assert _here(store) == {_hex(b), _hex(c)}


def test_a_model_larger_than_the_bound_evicts_nothing(
    bucket: Bucket, models: list[Model], tmp_path: Path, make_store: MakeStore
) -> None:
    store = make_store(**bucket.settings, cache_bytes=BOUND)
    _use(store, models[0])
    large = write_model(tmp_path / "large", 8, 9)
    uri = bucket.upload(large, "bounded/large")
    with pytest.raises(WeightsUnavailableError, match="the cache may hold"):
        store.open(Model(uri=uri, digest=digest_of(large), family="flux"))
    assert _here(store) == {_hex(models[0])}


def test_a_model_opened_twice_is_in_use_until_both_names_let_go(
    bucket: Bucket, models: list[Model], tmp_path: Path, make_store: MakeStore
) -> None:
    store, model = make_store(**bucket.settings), models[0]
    copy = Path(shutil.copytree(tmp_path / "model-0", tmp_path / "copy"))
    other = Model(uri=bucket.upload(copy, "bounded/copy"), digest=model.digest, family="flux")
    store.open(model)
    store.open(other)
    store.release(model)
    assert not evict_model(store.cache, _hex(model))
    store.release(other)
    store.release(other)
    assert evict_model(store.cache, _hex(model))


def test_a_file_that_another_model_has_too_survives_an_eviction(
    bucket: Bucket, models: list[Model], make_store: MakeStore
) -> None:
    store, (a, b, _) = make_store(**bucket.settings), models
    _use(store, a)
    _use(store, b)
    assert evict_model(store.cache, _hex(a))
    assert digest_of(store.cache.model_path(_hex(b))) == b.digest
    weights = {path.name for path in store.cache.root.glob("objects/*/*")}
    manifest = store.cache.manifest(_hex(b))
    assert manifest is not None
    assert weights == {file.sha256 for file in manifest.files}


HOLD = """
import os, sys
from inference.engine.weights import Model, WeightsStore
store = WeightsStore()
print(store.open(Model(uri=sys.argv[1], digest=sys.argv[2], family="flux")), flush=True)
sys.stdin.read()
"""


def test_what_another_process_uses_stays_until_it_dies_however_it_dies(
    bucket: Bucket, models: list[Model], make_store: MakeStore
) -> None:
    store, (a, b, c) = make_store(**bucket.settings, cache_bytes=BOUND), models
    env = {
        **bare_environment(),
        "WEIGHTS_CACHE_DIR": str(store.cache.root),
        "WEIGHTS_S3_BUCKETS": bucket.name,
        "WEIGHTS_S3_ENDPOINT_URL": bucket.endpoint,
        "AWS_ACCESS_KEY_ID": os.environ["AWS_ACCESS_KEY_ID"],
        "AWS_SECRET_ACCESS_KEY": os.environ["AWS_SECRET_ACCESS_KEY"],
    }
    command = [sys.executable, "-c", HOLD, a.uri, str(a.digest)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, env=env, stdin=pipe, stdout=pipe, text=True) as holder:
        try:
            assert holder.stdout is not None
            directory = Path(holder.stdout.readline().strip())
            assert directory == store.cache.model_path(_hex(a))
            _use(store, b)
            _use(store, c)
            assert _here(store) == {_hex(a), _hex(c)}
            assert not evict_model(store.cache, _hex(a))
        finally:
            holder.send_signal(signal.SIGKILL)
    assert evict_model(store.cache, _hex(a))


def test_several_that_come_at_once_harm_nothing_and_the_next_restores_the_bound(
    bucket: Bucket, models: list[Model], make_store: MakeStore
) -> None:
    bound = 4 * MIB
    stores = [make_store(**bucket.settings, cache_bytes=bound) for _ in models]
    problems: list[Exception] = []

    def use(store: WeightsStore, model: Model) -> None:
        try:
            _use(store, model)
        except WeightsUnavailableError as error:
            problems.append(error)

    threads = [threading.Thread(target=use, args=pair) for pair in zip(stores, models, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all("in use" in str(problem) for problem in problems)
    for digest in _here(stores[0]):
        assert digest_of(stores[0].cache.model_path(digest)) == f"sha256:{digest}"
    assert evict_model(stores[0].cache, _hex(models[0]))
    _use(stores[0], models[0])
    assert stores[0].cache.used() <= bound


def test_a_changed_file_is_fetched_again_though_the_cache_is_full(
    bucket: Bucket, models: list[Model], make_store: MakeStore
) -> None:
    store, model = make_store(**bucket.settings, cache_bytes=4 * MIB), models[0]
    _use(store, model)
    file = store.cache.model_path(_hex(model)) / WEIGHTS
    file.chmod(0o600)
    body = bytearray(file.read_bytes())
    body[-1] ^= 1
    file.write_bytes(body)
    directory = store.open(model)
    assert directory is not None
    assert digest_of(directory) == model.digest
    assert store.cache.used() <= 4 * MIB
