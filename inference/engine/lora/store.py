"""Keeps the LoRAs that were used last on the device, within a bound of bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from inference.engine.errors import EngineError, InvalidRequestError, WeightsUnavailableError
from inference.engine.lora import files
from inference.engine.lora.adapter import Adapter, fit
from inference.engine.lora.formats import convert, parse
from inference.engine.lora.mount import Outfit, Plans

if TYPE_CHECKING:
    from inference.engine.device import Device
    from inference.engine.loaded import Loaded
    from inference.engine.request import LoraUse
    from inference.engine.weights import WeightsStore

DEFAULT_BYTES = 256 * 1024 * 1024

Key = tuple[str, str, str, str | None]
"""The base's digest and number format, the LoRA's address and digest."""


@dataclass(slots=True)
class _Entry:
    """A LoRA that is there or on its way, and the requests that need it."""

    future: Future[Adapter]
    users: set[Hashable] = field(default_factory=set)

    @property
    def size(self) -> int:
        done = self.future.done() and self.future.exception() is None
        return self.future.result().size if done else 0


class LoraStore:
    """LoRAs by base model, address and digest; least recently used out first.

    What a request uses stays until it leaves; while that alone fills `limit` bytes, further
    requests wait. Engine thread only; files are read on a thread of their own, and `wake` is
    called from there when one is ready.
    """

    def __init__(
        self, weights: WeightsStore, device: Device, limit: int, wake: Callable[[], None]
    ) -> None:
        self._weights = weights
        self._device = device
        self._limit = limit
        self._wake = wake
        self._entries: OrderedDict[Key, _Entry] = OrderedDict()
        self._plans = Plans()
        self._reader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="lora")

    def take(self, user: Hashable, loaded: Loaded, uses: tuple[LoraUse, ...]) -> Outfit | None:
        """Return the LoRAs that `user` asked for; None while they are on their way.

        The first call orders them, all or none. Raises EngineError where one cannot be had.
        """
        if loaded.base is None:
            raise InvalidRequestError("loras is not a field of this model")
        keys = [(loaded.digest, str(loaded.denoiser.dtype), u.uri, u.digest) for u in uses]
        if any(key not in self._entries for key in keys) and self._used >= self._limit:
            return None
        for key, use in zip(keys, uses, strict=True):
            if key not in self._entries:
                future = self._reader.submit(self._load, loaded, use)
                self._entries[key] = _Entry(future)
                future.add_done_callback(lambda _: self._wake())
            self._entries[key].users.add(user)
            self._entries.move_to_end(key)
        entries = [self._entries[key] for key in keys]
        if not all(entry.future.done() for entry in entries):
            return None
        worn = tuple((e.future.result(), u.scale) for e, u in zip(entries, uses, strict=True))
        self._evict()
        return Outfit(worn, self._plans)

    def leave(self, user: Hashable) -> None:
        """Let go of what `user` took; what failed may then be tried again."""
        for key, entry in list(self._entries.items()):
            entry.users.discard(user)
            if not entry.users and entry.future.done() and entry.future.exception() is not None:
                del self._entries[key]
        self._evict()

    @property
    def size(self) -> int:
        """The bytes that all LoRAs take on the device."""
        return sum(entry.size for entry in self._entries.values())

    @property
    def uris(self) -> list[str]:
        """The addresses of what is kept, least recently used first."""
        return [key[2] for key in self._entries]

    @property
    def _used(self) -> int:
        return sum(entry.size for entry in self._entries.values() if entry.users)

    def close(self) -> None:
        """End the reading thread once what it reads is read."""
        self._reader.shutdown()

    def _evict(self) -> None:
        """Drop what nobody uses until the rest is within the bound."""
        dropped = False
        for key, entry in list(self._entries.items()):
            if self.size <= self._limit:
                break
            if not entry.users and entry.future.done():
                del self._entries[key]
                dropped = True
        if dropped:
            self._plans.forget()
            self._device.release()

    def _load(self, loaded: Loaded, use: LoraUse) -> Adapter:
        """Read, check, convert and put on the device. Raises EngineError."""
        try:
            # A file may be in twice as wide a format as the model, and has a header besides.
            data = files.read(self._weights, use, 2 * self._limit)
            tensors, config = parse(data, use.uri)
            factors = convert(loaded.base, use.uri, tensors, config)
            denoiser = getattr(loaded.denoiser, "_orig_mod", loaded.denoiser)
            adapter = fit(denoiser, use.uri, factors, self._device.device)
            if adapter.size > self._limit:
                raise InvalidRequestError(f"loras: {use.uri} takes more than {self._limit} bytes")
            return adapter
        except EngineError:
            raise
        except Exception as error:
            raise WeightsUnavailableError(
                f"LoRA {use.uri} does not load ({type(error).__name__})"
            ) from error
