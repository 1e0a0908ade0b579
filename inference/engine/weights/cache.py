"""The content-addressed cache of weights on this machine, shared by all its processes.

    objects/ab/<sha256>      files, read-only
    models/<digest>/         model directories, hard links to objects
    manifests/<digest>.json  what a model consists of; its mtime is the model's last use
    partial/, staging/       what is under way        locks/, known/        see below

A hard link counts who needs an object: one with a single link is in no model. All that enters
`objects`, `models` and `manifests` does so whole, by a rename.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from inference.engine.weights.locks import acquire, locked
from inference.engine.weights.manifest import Manifest, hash_file, is_hex_digest
from inference.engine.weights.partial import Partial


def sync(path: Path) -> None:
    """Flush a file or a directory to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_whole(path: Path, body: bytes) -> None:
    """Write a file so that it is never seen half-written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    with temporary.open("wb") as file:
        file.write(body)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)
    sync(path.parent)


def link(source: Path, target: Path) -> None:
    """Hard link, or copy where the file system has none. Never a symbolic link."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:
        shutil.copy2(source, target)


class LocalCache:
    """The directory `root`; made at its first use. Digests are hexadecimal, without "sha256:"."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def lock_path(self, name: str) -> Path:
        """Return where the lock called `name` is."""
        return self.root / "locks" / name

    def object_path(self, sha256: str) -> Path:
        """Return where the file with this sha256 is or would be."""
        return self.root / "objects" / sha256[:2] / sha256

    def model_path(self, digest: str) -> Path:
        """Return where the model with this version digest is or would be."""
        return self.root / "models" / digest

    def manifest_path(self, digest: str) -> Path:
        """Return where its manifest is or would be."""
        return self.root / "manifests" / f"{digest}.json"

    def partial_path(self, key: str) -> Path:
        """Return where a download under way is kept."""
        return self.root / "partial" / f"{key}.part"

    def make(self) -> None:
        """Make the directory, for its owner alone. Raises OSError."""
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)

    def partial_bytes(self, key: str) -> int:
        """Return the bytes that an unfinished download holds on the disk."""
        try:
            return self.partial_path(key).stat().st_blocks * 512
        except FileNotFoundError:
            return 0

    # Files

    def downloading(self, key: str) -> AbstractContextManager[None]:
        """Hold the right to download `key`; others wait, and then find it done."""
        return locked(self.lock_path(f"file-{key}"))

    def chunks_of(self, sha256: str) -> tuple[int, tuple[str, ...]] | None:
        """Return (bytes, sha256 of each chunk) of a file that is here, else None.

        It is read and hashed; one that has not the bytes that it ought to have is removed.
        """
        path = self.object_path(sha256)
        try:
            size, found, chunks = hash_file(path)
        except FileNotFoundError:
            return None
        if found == sha256:
            return size, chunks
        path.unlink(missing_ok=True)
        return None

    def adopt(self, partial: Partial, sha256: str) -> None:
        """Move a finished download to its place. The caller has checked that it has `sha256`."""
        target = self.object_path(sha256)
        target.parent.mkdir(parents=True, exist_ok=True)
        if self.chunks_of(sha256) is not None:
            # Somebody had it under another name; a second copy would part from its links.
            partial.path.unlink()
        else:
            partial.path.chmod(0o444)
            partial.path.rename(target)
            sync(target.parent)
        partial.remove_journal()

    def known(self, tag: str) -> str | None:
        """Return the sha256 of what was downloaded under `tag` before."""
        if not tag:
            return None
        try:
            text = self._known_path(tag).read_text()
        except FileNotFoundError:
            return None
        return text if is_hex_digest(text) else None

    def remember(self, tag: str, sha256: str) -> None:
        """Note which sha256 the content called `tag` turned out to have."""
        write_whole(self._known_path(tag), sha256.encode())

    def _known_path(self, tag: str) -> Path:
        return self.root / "known" / hashlib.sha256(tag.encode()).hexdigest()

    # Models

    def digests(self) -> list[str]:
        """Return the models that are here, the one used longest ago first."""
        found = []
        for path in (self.root / "manifests").glob("*.json"):
            if is_hex_digest(path.stem):
                try:
                    found.append((path.stat().st_mtime_ns, path.stem))
                except FileNotFoundError:
                    continue
        return [digest for _, digest in sorted(found)]

    def manifest(self, digest: str) -> Manifest | None:
        """Return the manifest of a model that is here, else None."""
        try:
            manifest = Manifest.from_json(self.manifest_path(digest).read_bytes())
        except (FileNotFoundError, ValueError):
            return None
        return manifest if manifest.digest == f"sha256:{digest}" else None

    def touch(self, digest: str) -> None:
        """Note that a model is used now."""
        # The kernel's own time has steps of some milliseconds, and two uses may fall into one.
        now = time.time_ns()
        os.utime(self.manifest_path(digest), ns=(now, now))

    def lease(self, digest: str) -> int:
        """Keep a model from eviction until the returned descriptor is closed."""
        return acquire(self.lock_path(f"model-{digest}"), shared=True)

    def is_intact(self, digest: str, manifest: Manifest) -> bool:
        """Whether a model's files have the sizes and times that they had when last hashed."""
        return self._stamps(digest) == self._stamps_now(digest, manifest)

    def stamp(self, digest: str, manifest: Manifest) -> None:
        """Note sizes and times of a model whose files were just hashed and found good."""
        body = json.dumps(self._stamps_now(digest, manifest)).encode()
        write_whole(self.root / "manifests" / f"{digest}.stamp", body)

    def _stamps(self, digest: str) -> object:
        try:
            return json.loads((self.root / "manifests" / f"{digest}.stamp").read_bytes())
        except (FileNotFoundError, ValueError):
            return None

    def _stamps_now(self, digest: str, manifest: Manifest) -> dict[str, list[int]]:
        now = {}
        for file in manifest.files:
            try:
                found = (self.model_path(digest) / file.path).lstat()
            except FileNotFoundError:
                continue
            now[file.path] = [found.st_size, found.st_mtime_ns, found.st_mode]
        return now

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """Give a directory to put a model together in; it is gone afterwards."""
        with locked(self.lock_path("fetch"), shared=True):
            directory = self.root / "staging" / secrets.token_hex(8)
            directory.mkdir(parents=True)
            try:
                yield directory
            finally:
                shutil.rmtree(directory, ignore_errors=True)

    def publish(self, staged: Path, manifest: Manifest) -> Path:
        """Make a staged model a model of this cache. The caller holds its lease."""
        digest = manifest.digest.removeprefix("sha256:")
        target = self.model_path(digest)
        target.parent.mkdir(parents=True, exist_ok=True)
        with locked(self.lock_path("publish")):
            if target.exists():
                self._set_aside(target)
            staged.rename(target)
            sync(target.parent)
            self.stamp(digest, manifest)
            write_whole(self.manifest_path(digest), manifest.to_json())
        return target

    def remove(self, digest: str) -> None:
        """Delete a model; its files stay where they are mapped, and as objects of others."""
        self.manifest_path(digest).unlink(missing_ok=True)
        (self.root / "manifests" / f"{digest}.stamp").unlink(missing_ok=True)
        self._set_aside(self.model_path(digest))

    def _set_aside(self, directory: Path) -> None:
        aside = self.root / "staging" / secrets.token_hex(8)
        aside.parent.mkdir(parents=True, exist_ok=True)
        try:
            directory.rename(aside)
        except FileNotFoundError:
            return
        shutil.rmtree(aside, ignore_errors=True)

    def find(self, sha256: str) -> Path | None:
        """Return a file of this cache by its sha256, else None."""
        path = self.object_path(sha256)
        return path if path.is_file() else None

    def used(self, folders: Iterable[str] = ("objects", "models", "staging", "partial")) -> int:
        """Return the bytes on the disk, each file counted once however many links it has."""
        sizes: dict[tuple[int, int], int] = {}
        for name in folders:
            for folder, _, files in os.walk(self.root / name):
                for file in files:
                    try:
                        found = Path(folder, file).lstat()
                    except FileNotFoundError:
                        continue
                    sizes[found.st_dev, found.st_ino] = found.st_blocks * 512
        return sum(sizes.values())
