"""Opens a model: finds it, brings it here if need be, and checks it before anybody loads it."""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from inference.engine.errors import WeightsMismatchError, WeightsUnavailableError
from inference.engine.weights import addresses, classes, rules
from inference.engine.weights.cache import LocalCache
from inference.engine.weights.eviction import NoRoomError, evict_model
from inference.engine.weights.manifest import digest_of
from inference.engine.weights.model import NOOP_DIGEST, Model
from inference.engine.weights.peers import Peers
from inference.engine.weights.remote import RemoteFetch, is_full
from inference.engine.weights.report import FetchProgress, FetchReport, Tally
from inference.engine.weights.settings import WeightsSettings
from inference.engine.weights.sources import Origin, SourceError

log = logging.getLogger(__name__)

Key = tuple[str, str | None]
"""A URI and the digest that was demanded of it."""
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Opened:
    """A verified model. `directory` is None for `noop:`; `digest` is what its files have."""

    directory: Path | None
    digest: str
    report: FetchReport


def _nobody() -> Iterable[str]:
    return ()


class WeightsStore:
    """Finds, fetches and verifies weights. Safe for many threads.

    `roots` are the directories that `file:` may read below; absent, and for all else, the
    environment says (see WeightsSettings). `discover` returns base URLs of further peers. Raises
    ValueError where a variable is wrong.
    """

    def __init__(
        self,
        roots: Iterable[Path] | None = None,
        settings: WeightsSettings | None = None,
        discover: Callable[[], Iterable[str]] = _nobody,
    ) -> None:
        settings = settings or WeightsSettings.from_env(os.environ)
        self.settings = settings if roots is None else replace(settings, roots=tuple(roots))
        self.cache = LocalCache(settings.cache_dir)
        self._discover = discover
        self._peers = Peers(self._addresses, settings.peer_token, settings.advertise_url)
        self._lock = threading.Lock()
        self._leases: dict[str, int] = {}
        self._opened: dict[Key, str] = {}
        self._fetching: dict[Key, Tally] = {}

    def locate(self, uri: str) -> Path | None:
        """Return the directory of `uri`, fetched if need be; None for `noop:`.

        No digest is demanded, so this is for the operator's own addresses. Raises
        WeightsUnavailableError, or WeightsMismatchError where it may not be loaded.
        """
        address = addresses.parse(uri)
        if isinstance(address, addresses.S3 | addresses.Hub):
            return self._remote((uri, None), address, Tally())[0]
        return self._here(uri, address)

    def defaults(self, uri: str) -> dict[str, Any]:
        """Return what a model that ships asks for where a request leaves it open, else nothing.

        Keys are fields of GenerationRequest.
        """
        scheme, _, name = uri.partition(":")
        if scheme != "starter":
            return {}
        from inference import starter

        return dict(starter.defaults(name))

    def open(self, model: Model) -> Path | None:
        """Return the verified directory of `model`, None for `noop:`.

        Raises WeightsUnavailableError, or WeightsMismatchError where the digest is another one.
        """
        return self.open_with_report(model).directory

    def open_with_report(self, model: Model) -> Opened:
        """Open `model` as `open` does, and tell what each source gave and how long it took.

        What came from elsewhere stays in the cache until `release(model)`.
        """
        tally = Tally()
        address = addresses.parse(model.uri)
        if isinstance(address, addresses.Noop) != (model.family == "noop"):
            raise WeightsMismatchError("the noop: weights and the noop family belong together")
        if model.digest is not None and not _DIGEST.fullmatch(model.digest):
            raise WeightsMismatchError("a registered digest reads sha256: and 64 hex digits")
        if isinstance(address, addresses.S3 | addresses.Hub):
            key = (model.uri, model.digest)
            self._fetching[key] = tally
            try:
                directory, found = self._remote(key, address, tally)
            finally:
                self._fetching.pop(key, None)
            opened = Opened(directory, found, tally.report())
        else:
            opened = self._open_here(model, address, tally)
        log.info("opened weights %s: %s", model.uri, opened.report)
        return opened

    def fetching(self, model: Model) -> FetchProgress | None:
        """Return how far the fetch of `model` is; None where none is under way."""
        tally = self._fetching.get((model.uri, model.digest))
        return tally.progress() if tally is not None and tally.total else None

    def release(self, model: Model) -> None:
        """Let go of what `open` gave: from now on it may be evicted from the cache."""
        self._release((model.uri, model.digest))

    def _release(self, key: Key) -> None:
        with self._lock:
            hexdigest = self._opened.pop(key, None)
            if hexdigest is not None and hexdigest not in self._opened.values():
                os.close(self._leases.pop(hexdigest))

    # What is on this machine

    def _open_here(self, model: Model, address: addresses.Address, tally: Tally) -> Opened:
        directory = self._here(model.uri, address)
        if directory is None:
            found = NOOP_DIGEST
        else:
            with tally.reading("disk"):
                found = digest_of(directory)
            tally.add("disk", sum(f.stat().st_size for f in rules.hashed_files(directory)))
        if model.digest is not None and model.digest != found:
            raise WeightsMismatchError(f"weights {model.uri} have the digest {found}")
        if directory is not None:
            rules.check_directory(directory)
            classes.check_classes(directory)
        return Opened(directory, found, tally.report())

    def _here(self, uri: str, address: addresses.Address) -> Path | None:
        if isinstance(address, addresses.Starter):
            directory = _starter(address.name)
        elif isinstance(address, addresses.Local):
            directory = address.path.resolve()
            roots = [root.resolve() for root in self.settings.roots]
            if not any(directory.is_relative_to(root) for root in roots):
                raise WeightsUnavailableError(
                    f"{uri} is below no directory in MERCATO_WEIGHTS_DIRS"
                )
        else:
            return None
        if not directory.is_dir():
            raise WeightsUnavailableError(f"weights {uri} are not on this worker")
        return directory

    # What is elsewhere

    def _remote(
        self, key: Key, address: addresses.S3 | addresses.Hub, tally: Tally
    ) -> tuple[Path, str]:
        """Return the directory and digest of a model that is in the cache then, and leased."""
        uri = key[0]
        was_open = key in self._opened
        try:
            return self._leased(key, self._origin(address), tally)
        except BaseException as error:
            if not was_open:
                self._release(key)
            if isinstance(error, WeightsMismatchError):
                raise WeightsMismatchError(f"weights {uri}: {error}") from error
            if isinstance(error, SourceError | NoRoomError):
                raise WeightsUnavailableError(f"weights {uri}: {error}") from error
            if isinstance(error, OSError):
                why = "the disk is full" if is_full(error) else type(error).__name__
                raise WeightsUnavailableError(f"weights {uri}: the cache failed: {why}") from error
            raise

    def _leased(self, key: Key, origin: Origin, tally: Tally) -> tuple[Path, str]:
        self.cache.make()
        hexdigest = self._cached(key, tally)
        if hexdigest is None:
            fetch = RemoteFetch(
                cache=self.cache,
                cache_bytes=self.settings.cache_bytes,
                peers=self._peers,
                origin=origin,
                tally=tally,
                parallel=self.settings.parallel,
                lease=lambda found: self._lease(key, found),
            )
            hexdigest = fetch.run(key[1])
        self.cache.touch(hexdigest)
        return self.cache.model_path(hexdigest), f"sha256:{hexdigest}"

    def _cached(self, key: Key, tally: Tally) -> str | None:
        """Return the hex digest if the version is here and unchanged since it was verified."""
        if key[1] is None:
            return None
        hexdigest = key[1].removeprefix("sha256:")
        manifest = self.cache.manifest(hexdigest)
        if manifest is not None and not self.cache.is_intact(hexdigest, manifest):
            # It is fetched again, and a full cache would have no room for it twice.
            evict_model(self.cache, hexdigest)
        # The lease comes before the look that counts: nobody evicts between that and the load.
        self._lease(key, hexdigest)
        manifest = self.cache.manifest(hexdigest)
        if manifest is None or not self.cache.is_intact(hexdigest, manifest):
            return None
        with tally.reading("cache"):
            directory = self.cache.model_path(hexdigest)
            rules.check_directory(directory)
            classes.check_classes(directory)
        tally.add("cache", manifest.size)
        return hexdigest

    def _lease(self, key: Key, hexdigest: str) -> None:
        with self._lock:
            if hexdigest not in self._leases:
                self._leases[hexdigest] = self.cache.lease(hexdigest)
            before = self._opened.get(key)
            self._opened[key] = hexdigest
            if before is not None and before not in self._opened.values():
                os.close(self._leases.pop(before))

    def _origin(self, address: addresses.S3 | addresses.Hub) -> Origin:
        # Each brings a client that processes without remote weights need not load.
        if isinstance(address, addresses.S3):
            from inference.engine.weights.s3 import S3Origin

            return S3Origin(address, self.settings)
        from inference.engine.weights.hub import HubOrigin

        return HubOrigin(address, self.settings)

    def _addresses(self) -> list[str]:
        found = list(self.settings.peers)
        if self.settings.discover_peers:
            found += self._discover()
        return found


def _starter(name: str) -> Path:
    from inference import starter

    try:
        return Path(starter.path(name))
    except (KeyError, ValueError, OSError) as error:
        there = ", ".join(starter.names()) or "none"
        raise WeightsUnavailableError(
            f"no model named {name!r} ships with Mercato; there are: {there}"
        ) from error
