"""Brings one file into the cache: in parallel chunks, each checked, from whoever has it."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from inference.engine.errors import WeightsMismatchError
from inference.engine.weights.cache import LocalCache
from inference.engine.weights.manifest import ManifestFile
from inference.engine.weights.partial import Partial
from inference.engine.weights.peers import Peer, Peers
from inference.engine.weights.report import Tally
from inference.engine.weights.sources import Origin, RemoteFile, Source, SourceError

log = logging.getLogger(__name__)


class DoubtfulChunkError(SourceError):
    """The bytes are not those that the list of chunks demands; either may be wrong."""


@dataclass(frozen=True, slots=True)
class Offer:
    """A file as some sources describe it: its list of chunks is theirs, and may be a lie."""

    file: RemoteFile
    peers: tuple[Peer, ...] = ()


@dataclass(slots=True, kw_only=True)
class Downloader:
    """Downloads files of one model. `origin` None means that only peers are asked."""

    cache: LocalCache
    tally: Tally
    peers: Peers
    origin: Origin | None
    parallel: int = 8

    def fetch(self, file: RemoteFile, offers: Sequence[Offer] = ()) -> ManifestFile:
        """Return what `file` is, by our own hashing; it is in the cache from then on.

        Peers' offers are tried first, the origin last. Only one process downloads a file, others
        wait for it. Raises SourceError, or WeightsMismatchError where the origin itself has
        other bytes than `file.sha256`.
        """
        key = file.key
        with self.cache.downloading(key):
            held = file.sha256 or self.cache.known(file.tag)
            if held and (found := self.cache.chunks_of(held)):
                self.tally.add("cache", found[0])
                return ManifestFile(path=file.path, size=found[0], sha256=held, chunks=found[1])
            problem = "nobody has it"
            for offer in [*offers, Offer(file)]:
                if not (sources := self._sources(offer)):
                    continue
                try:
                    return self._fetch_from(key, offer, sources)
                except SourceError as error:
                    problem = str(error)
            raise SourceError(f"{file.path}: {problem}")

    def _sources(self, offer: Offer) -> list[Source]:
        """Return who may give the bytes of `offer`: its peers, then the origin."""
        held = [peer for peer in offer.peers if self.peers.trusts(peer)]
        if offer.peers and not held:
            return []
        return [*held, self.origin] if self.origin else [*held]

    def _fetch_from(self, key: str, offer: Offer, sources: list[Source]) -> ManifestFile:
        """Put the file together by one list of chunks. Raises SourceError, WeightsMismatchError."""
        file = offer.file
        with Partial(self.cache.partial_path(key), file.size, file.chunks) as partial:
            while True:
                resumed = partial.resumed
                self._fill(partial, offer, sources)
                whole, chunks = partial.finish()
                if file.sha256 in (None, whole):
                    self.cache.adopt(partial, whole)
                    if file.tag:
                        self.cache.remember(file.tag, whole)
                    return ManifestFile(path=file.path, size=file.size, sha256=whole, chunks=chunks)
                partial.discard()
                if offer.peers:
                    self._distrust(offer, "its chunks do not make the file that they promise")
                    raise SourceError(f"peers gave other bytes than {file.path} has")
                if not resumed:
                    raise WeightsMismatchError(f"{file.path} has the sha256 {whole} where it is")
                # What an earlier try left may have been wrong: once more, from nothing.

    def _fill(self, partial: Partial, offer: Offer, sources: list[Source]) -> None:
        """Write every missing chunk. Raises SourceError where no source is left for one."""
        missing = partial.missing()
        if len(missing) == 1:
            self._chunk(partial, offer, sources, missing[0])
            return
        with ThreadPoolExecutor(self.parallel, thread_name_prefix="weights") as pool:
            futures = [pool.submit(self._chunk, partial, offer, sources, n) for n in missing]
            try:
                for future in futures:
                    future.result()
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise

    def _chunk(self, partial: Partial, offer: Offer, sources: list[Source], number: int) -> None:
        """Write one chunk from the first source that gives it right."""
        start, stop = partial.span(number)
        peers = [source for source in sources if isinstance(source, Peer)]
        turn = number % len(peers) if peers else 0
        order: list[Source] = [*peers[turn:], *peers[:turn], *sources[len(peers) :]]
        problem = "no peer is left that has it"
        for source in order:
            if isinstance(source, Peer) and not self.peers.trusts(source):
                continue
            try:
                body = self._read(source, offer.file, start, stop)
                wanted = offer.file.chunks[number] if offer.file.chunks else None
                if wanted and hashlib.sha256(body).hexdigest() != wanted:
                    raise DoubtfulChunkError(f"chunk {number} of {offer.file.path} is another one")
            except SourceError as error:
                problem = f"{source.name}: {error}"
                if isinstance(source, Peer):
                    self.peers.drop(source, str(error))
                continue
            partial.write(number, body)
            self.tally.add(source.name, stop - start)
            return
        raise SourceError(problem)

    def _read(self, source: Source, file: RemoteFile, start: int, stop: int) -> bytes:
        """Read one chunk, trying again where the source is worth it. Raises SourceError."""
        for attempt in range(1, source.tries + 1):
            try:
                with self.tally.reading(source.name):
                    body = source.read(file, start, stop)
                if len(body) != stop - start:
                    raise SourceError(f"gave {len(body)} bytes of {stop - start}")
                return body
            except SourceError as error:
                if attempt == source.tries:
                    raise
                log.warning("reading weights again: %s: %s", source.name, error)
                time.sleep(0.2 * 3 ** (attempt - 1))
        raise AssertionError("tries is above 0")

    def _distrust(self, offer: Offer, why: str) -> None:
        for peer in offer.peers:
            self.peers.drop(peer, why)
