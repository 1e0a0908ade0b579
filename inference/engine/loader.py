"""Loads pipelines on a thread of its own and keeps those that were used last on the device."""

from __future__ import annotations

import copy
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from traceback import clear_frames

from inference.engine.device import Device
from inference.engine.endings import end_at_exit
from inference.engine.errors import (
    DeviceMemoryError,
    EngineError,
    WeightsUnavailableError,
    is_out_of_memory,
)
from inference.engine.families import get_family
from inference.engine.loaded import Loaded
from inference.engine.profile import Profile
from inference.engine.weights import Model, WeightsStore

Key = tuple[Model, Profile]
REMEMBERED_S = 60.0
"""How long weights that cannot be loaded as they are, are not tried again."""


@dataclass(slots=True)
class _Entry:
    """A pipeline that is being loaded, is there, or could not be loaded."""

    loaded: Loaded | None = None
    error: EngineError | None = None
    seconds: float = 0.0
    users: int = 0
    used: float = 0.0
    """When it was last asked for, on the monotonic clock."""
    failed: float = 0.0
    """When it could not be loaded."""

    def failure(self, since: float) -> EngineError | None:
        """Return the error for one who waits `since`, None where it is worth another try."""
        if self.error is None:
            return None
        permanent = not self.error.retryable
        if since > self.failed and not (
            permanent and time.monotonic() - self.failed < REMEMBERED_S
        ):
            return None
        # One exception for many would gather the frames of all that raise it.
        error = copy.copy(self.error)
        error.__cause__ = self.error.__cause__
        return error


class Loader:
    """At most `limit` pipelines, least recently used out first; what is in use stays.

    All methods but the loading itself are for the engine thread; the loading thread may call
    `release_idle` besides, as `place` does that brings the weights to the device. `wake` is called
    from the loading thread whenever something has been loaded or has failed.
    """

    def __init__(
        self,
        weights: WeightsStore,
        device: Device,
        limit: int,
        wake: Callable[[], None],
        place: Callable[[Loaded, Callable[[], bool]], None],
        mount: Callable[[Loaded, Profile], None],
    ) -> None:
        self._weights = weights
        self._device = device
        self._limit = limit
        self._wake = wake
        self._place = place
        self._mount = mount
        # The loading thread makes room for what it loads while the engine's takes and leaves.
        self._lock = threading.RLock()
        # Other threads list it; of an OrderedDict that is moved about meanwhile they could not.
        self._entries: dict[Key, _Entry] = {}
        self._orders: queue.SimpleQueue[Key | None] = queue.SimpleQueue()
        self._dropped = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="loader", daemon=True)
        self._thread.start()
        end_at_exit(self._thread, self._dropped.set, partial(self._orders.put, None))

    def get(self, key: Key, since: float) -> tuple[Loaded, float] | None:
        """Return the pipeline and the seconds its loading took, None while it is not there.

        The first call orders it. `since` is when the caller began to wait, on the monotonic clock:
        who waited when it failed gets the error of that one try, and so does who comes within
        REMEMBERED_S of a failure that is no matter of luck. Raises EngineError.
        """
        with self._lock:
            entry = self._entries.get(key)
            if entry is not None and entry.error is not None:
                if (error := entry.failure(since)) is not None:
                    raise error
                self._drop(key)
                entry = None
            if entry is None:
                if self._make_room():
                    self._entries[key] = _Entry(used=time.monotonic())
                    self._orders.put(key)
                return None
            entry.used = time.monotonic()
            return None if entry.loaded is None else (entry.loaded, entry.seconds)

    def take(self, key: Key, since: float) -> tuple[Loaded, float] | None:
        """Do as `get` does, and count one user more of what is there."""
        with self._lock:
            found = self.get(key, since)
            if found is not None:
                self._entries[key].users += 1
            return found

    def crowded(self, key: Key) -> bool:
        """Tell whether `key` cannot even be ordered, for all that is loaded is in use."""
        return key not in self._entries and len(self._entries) >= self._limit

    def leave(self, key: Key) -> None:
        """Count one user less of a pipeline that was taken."""
        with self._lock:
            self._entries[key].users -= 1

    def models(self) -> list[Model]:
        """Return the models that are on the device; safe from any thread."""
        there = [key[0] for key, entry in list(self._entries.items()) if entry.loaded]
        return list(dict.fromkeys(there))

    def pipelines(self) -> list[Loaded]:
        """Return what is on the device; safe from any thread."""
        return [entry.loaded for entry in list(self._entries.values()) if entry.loaded]

    def close(self) -> None:
        """End the loading thread once what it loads is loaded."""
        self._orders.put(None)
        self._thread.join()

    def release_idle(self) -> bool:
        """Drop one pipeline that nobody uses; False where there is none. Safe from any thread."""
        with self._lock:
            idle = [
                (entry.error is None, entry.used, key)
                for key, entry in self._entries.items()
                if not entry.users and (entry.loaded is not None or entry.error is not None)
            ]
            if not idle:
                return False
            self._drop(min(idle, key=lambda found: found[:2])[2])
            return True

    def _drop(self, key: Key) -> None:
        del self._entries[key]
        self._device.release()
        if all(other[0] != key[0] for other in self._entries):
            self._weights.release(key[0])

    def _make_room(self) -> bool:
        while len(self._entries) >= self._limit:
            if not self.release_idle():
                return False
        return True

    def _loop(self) -> None:
        while (key := self._orders.get()) is not None and not self._dropped.is_set():
            entry = self._entries[key]
            began = time.monotonic()
            try:
                loaded = self._load(*key)
            except EngineError as error:
                self._refuse(entry, error)
            except Exception as error:
                failure = WeightsUnavailableError(
                    f"{key[0].uri} does not load ({type(error).__name__})"
                )
                # What was read and verified and makes no pipeline, makes none the next time.
                failure.retryable = isinstance(error, (OSError, RuntimeError))
                failure.__cause__ = error
                self._refuse(entry, failure)
            else:
                entry.seconds = time.monotonic() - began
                entry.loaded = loaded
            self._wake()

    def _refuse(self, entry: _Entry, error: EngineError) -> None:
        if error.__cause__ is not None:
            clear_frames(error.__cause__.__traceback__)
        entry.failed = time.monotonic()
        entry.error = error

    def _load(self, model: Model, profile: Profile) -> Loaded:
        """Verify, load and set up. Raises EngineError."""
        family = get_family(model.family)
        opened = self._weights.open_with_report(model)
        digest, directory = model.digest or model.uri, opened.directory
        try:
            pipeline = family.read(directory, self._device)
            loaded = Loaded(family, pipeline, self._device, digest, directory, opened.report)
            loaded.defaults = self._weights.defaults(model.uri)
            self._place(loaded, self.release_idle)
            self._mount(loaded, profile)
        except DeviceMemoryError:
            self._device.release()
            raise
        except Exception as error:
            if is_out_of_memory(error):
                clear_frames(error.__traceback__)  # they hold what was loaded
                self._device.release()
                raise DeviceMemoryError(f"{model.uri} does not fit on the device") from error
            raise
        return loaded
