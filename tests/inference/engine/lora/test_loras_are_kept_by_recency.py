"""The store keeps what was used last, within its bytes, and nothing that is in use goes."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest

from inference.engine.errors import InvalidRequestError, WeightsUnavailableError
from inference.engine.loaded import Loaded
from inference.engine.lora.store import LoraStore
from inference.engine.request import LoraUse
from tests.inference.engine.lora.conftest import take, use
from tests.inference.engine.lora.files import flux_peft, save


@pytest.fixture
def three(weights_dir: Path) -> list[LoraUse]:
    """Three LoRAs of one size."""
    return [use(save(weights_dir / f"lru{i}.safetensors", flux_peft(i))) for i in range(3)]


@pytest.fixture
def loaded(load: Callable[[str], Loaded]) -> Loaded:
    """A pipeline."""
    return load("flux")


def _size(loaded: Loaded, make_store: Callable[..., LoraStore], lora: LoraUse) -> int:
    store = make_store()
    take(store, 0, loaded, lora)
    return store.size


def test_the_least_recently_used_goes_first(
    loaded: Loaded, make_store: Callable[..., LoraStore], three: list[LoraUse]
) -> None:
    size = _size(loaded, make_store, three[0])
    store = make_store(2 * size)
    a, b, c = three
    for lora in (a, b, a, c):
        take(store, "r", loaded, lora)
        store.leave("r")
    assert store.uris == [a.uri, c.uri]
    assert store.size == 2 * size


def test_memory_is_free_after_eviction(
    loaded: Loaded, make_store: Callable[..., LoraStore], three: list[LoraUse]
) -> None:
    store = make_store(_size(loaded, make_store, three[0]))
    outfit = take(store, 1, loaded, three[0])
    outfit.plans.of([outfit.worn])
    (adapter, _), *_ = outfit.worn
    tensors = [weakref.ref(low.down) for low in adapter.layers.values()]
    del outfit, adapter
    store.leave(1)
    gc.collect()
    assert all(tensor() is not None for tensor in tensors)
    take(store, 2, loaded, three[1])
    gc.collect()
    assert not any(tensor() is not None for tensor in tensors)


def test_what_is_in_use_stays_and_further_requests_wait(
    loaded: Loaded, make_store: Callable[..., LoraStore], three: list[LoraUse]
) -> None:
    store = make_store(_size(loaded, make_store, three[0]))
    take(store, 1, loaded, three[0])
    assert store.take(2, loaded, (three[1],)) is None
    assert store.uris == [three[0].uri]
    assert take(store, 3, loaded, three[0]).worn
    store.leave(1)
    assert store.take(2, loaded, (three[1],)) is None
    store.leave(3)
    take(store, 2, loaded, three[1])
    assert store.uris == [three[1].uri]


def test_one_that_is_larger_than_all_room_is_refused(
    loaded: Loaded, make_store: Callable[..., LoraStore], three: list[LoraUse]
) -> None:
    with pytest.raises(InvalidRequestError, match=r"^loras: .* is larger than 200 bytes"):
        take(make_store(100), 1, loaded, three[0])
    size = _size(loaded, make_store, three[0])
    with pytest.raises(InvalidRequestError, match=r"^loras: .* takes more than"):
        take(make_store(size - 1), 1, loaded, three[0])


def test_what_could_not_be_had_is_tried_again(
    loaded: Loaded, make_store: Callable[..., LoraStore], weights_dir: Path
) -> None:
    store = make_store()
    path = weights_dir / "late.safetensors"
    late = LoraUse(uri=path.as_uri())
    with pytest.raises(WeightsUnavailableError):
        take(store, 1, loaded, late)
    store.leave(1)
    save(path, flux_peft())
    assert take(store, 2, loaded, late).worn
