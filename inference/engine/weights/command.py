"""The commands `python -m inference weights …`: look after this machine's cache of weights."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from inference.engine.errors import EngineError
from inference.engine.weights import rules
from inference.engine.weights.cache import LocalCache, write_whole
from inference.engine.weights.eviction import NoRoomError, evict_model, make_room, sweep_objects
from inference.engine.weights.locks import LockedElsewhereError, locked
from inference.engine.weights.manifest import describe, hash_file
from inference.engine.weights.model import Model
from inference.engine.weights.s3 import MANIFEST_NAME
from inference.engine.weights.server import serve
from inference.engine.weights.settings import WeightsSettings, size_of
from inference.engine.weights.store import WeightsStore


class UsageError(Exception):
    """The user asked for what cannot be; the message is all that there is to say."""


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def _settings() -> WeightsSettings:
    return WeightsSettings.from_env(os.environ)


def _cache() -> LocalCache:
    return LocalCache(_settings().cache_dir)


def _hex(cache: LocalCache, text: str) -> str:
    """Return the one model of the cache whose digest begins with `text`."""
    wanted = text.removeprefix("sha256:")
    found = [digest for digest in cache.digests() if wanted and digest.startswith(wanted)]
    if len(found) != 1:
        raise UsageError(f"{'several models' if found else 'no model'} here: {text}")
    return found[0]


def _in_use(cache: LocalCache, digest: str) -> bool:
    try:
        with locked(cache.lock_path(f"model-{digest}"), wait=False):
            return False
    except LockedElsewhereError:
        return True


def list_models(arguments: argparse.Namespace) -> int:
    """Print what is in the cache, used last at the end."""
    cache = _cache()
    rows: list[dict[str, Any]] = []
    for digest in cache.digests():
        if (manifest := cache.manifest(digest)) is None:
            continue
        used = cache.manifest_path(digest).stat().st_mtime
        rows.append(
            {
                "digest": f"sha256:{digest}",
                "bytes": manifest.size,
                "files": len(manifest.files),
                "used_at": round(used),
                "in_use": _in_use(cache, digest),
            }
        )
    if arguments.json:
        _say(json.dumps({"directory": str(cache.root), "bytes": cache.used(), "models": rows}))
        return 0
    for row in rows:
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(row["used_at"]))
        mark = "in use" if row["in_use"] else ""
        _say(f"{row['digest']}  {row['bytes'] / 1e6:10.1f} MB  {when}  {mark}".rstrip())
    _say(f"{cache.used() / 1e6:.1f} MB in {cache.root}")
    return 0


def fetch(arguments: argparse.Namespace) -> int:
    """Bring a model into the cache and print its digest, and what each source gave."""
    family = "noop" if arguments.uri == "noop:" else ""
    model = Model(uri=arguments.uri, digest=arguments.digest, family=family)
    store = WeightsStore()
    opened = store.open_with_report(model)
    store.release(model)
    if arguments.json:
        directory = str(opened.directory) if opened.directory else None
        report = opened.report.to_dict()
        _say(json.dumps({"digest": opened.digest, "directory": directory, **report}))
        return 0
    for row in opened.report.sources:
        _say(f"{row.bytes / 1e6:.1f} MB from {row.source} in {row.seconds:.2f} s")
    _say(f"{opened.digest}  {opened.directory}")
    return 0


def _damage(cache: LocalCache, digest: str) -> str | None:
    """Hash a model again; return what is wrong with it, None if nothing is."""
    manifest = cache.manifest(digest)
    if manifest is None:
        return "its manifest does not have its digest"
    directory = cache.model_path(digest)
    try:
        for file in manifest.files:
            if hash_file(directory / file.path)[1] != file.sha256:
                return f"{file.path} has changed"
        rules.check_directory(directory)
    except FileNotFoundError as error:
        return f"{Path(str(error.filename)).name} is gone"
    except EngineError as error:
        return str(error)
    cache.stamp(digest, manifest)
    return None


def verify(arguments: argparse.Namespace) -> int:
    """Hash every file again; what has changed is removed, and fetched anew at its next use."""
    cache = _cache()
    chosen = [_hex(cache, text) for text in arguments.digest] or cache.digests()
    bad = 0
    for digest in chosen:
        problem = _damage(cache, digest)
        _say(f"sha256:{digest}  {problem or 'ok'}")
        if problem:
            bad += 1
            cache.remove(digest)
    if bad:
        sys.stderr.write(f"inference: {bad} of {len(chosen)} models had changed and were removed\n")
    return 1 if bad else 0


def evict(arguments: argparse.Namespace) -> int:
    """Delete models that nobody uses: those named, all, or the oldest down to a size."""
    cache, code = _cache(), 0
    if arguments.to is not None:
        try:
            make_room(cache, 0, size_of(arguments.to, "--to"))
        except NoRoomError:
            sys.stderr.write(f"inference: what is in use takes more than {arguments.to}\n")
            code = 1
        chosen = []
    elif arguments.all:
        chosen = cache.digests()
    else:
        chosen = [_hex(cache, text) for text in arguments.digest]
        if not chosen:
            raise UsageError("name digests, --all, or --to SIZE")
    for digest in chosen:
        if not evict_model(cache, digest):
            sys.stderr.write(f"inference: sha256:{digest} is in use\n")
            code = 1
    sweep_objects(cache)
    _say(f"{cache.used() / 1e6:.1f} MB in {cache.root}")
    return code


def manifest(arguments: argparse.Namespace) -> int:
    """Write weights.manifest into a model directory, to be uploaded to S3 beside its files."""
    directory = Path(arguments.directory)
    if not directory.is_dir():
        raise UsageError(f"{directory} is no directory")
    rules.check_directory(directory)
    described = describe(directory)
    write_whole(directory / MANIFEST_NAME, described.to_json())
    _say(f"{described.digest}  {directory / MANIFEST_NAME}")
    return 0


def serve_peers(_arguments: argparse.Namespace) -> int:
    """Serve this machine's cache to other workers until interrupted."""
    server = serve(_settings())
    if server is None:
        raise UsageError("set WEIGHTS_SERVE_PORT to the port to serve at")
    _say(f"serving weights at {server.url}")
    sys.stdout.flush()
    try:
        server.wait()
    except KeyboardInterrupt:
        server.close()
    return 0


def _checked(command: Callable[[argparse.Namespace], int]) -> Callable[[argparse.Namespace], int]:
    """Turn every expected failure of `command` into one line and an exit status."""

    def run(arguments: argparse.Namespace) -> int:
        try:
            return command(arguments)
        except (UsageError, ValueError) as error:
            sys.stderr.write(f"inference: {error}\n")
            return 2
        except (EngineError, OSError) as error:
            sys.stderr.write(f"inference: {error}\n")
            return 1

    return run


def add_commands(subparsers: Any) -> None:
    """Add `weights` and what is below it to the subparsers of an ArgumentParser."""
    help_text = "look after this machine's cache of weights"
    group = subparsers.add_parser("weights", help=help_text, description=__doc__)
    commands = group.add_subparsers(required=True, metavar="action")

    def add(name: str, command: Callable[[argparse.Namespace], int], text: str) -> Any:
        parser = commands.add_parser(name, help=text, description=command.__doc__)
        parser.set_defaults(command=_checked(command))
        return parser

    add("list", list_models, "print what is here").add_argument(
        "--json", action="store_true", help="print JSON"
    )
    one = add("fetch", fetch, "bring a model here and print its digest")
    one.add_argument("uri", help="s3://…, hub://…, file:///… or starter:…")
    one.add_argument("--digest", help="refuse any other; sha256: and 64 hexadecimal digits")
    one.add_argument("--json", action="store_true", help="print JSON")
    check = add("verify", verify, "hash every file again")
    check.add_argument("digest", nargs="*", help="or its first digits; all models if absent")
    drop = add("evict", evict, "delete models that nobody uses")
    drop.add_argument("digest", nargs="*", help="or its first digits")
    drop.add_argument("--all", action="store_true", help="every one")
    drop.add_argument("--to", metavar="SIZE", help="such as 100G: the oldest go until it fits")
    write = add("manifest", manifest, "write weights.manifest for an upload to S3")
    write.add_argument("directory", help="of a diffusers pipeline")
    add("serve", serve_peers, "serve this cache to other workers")
