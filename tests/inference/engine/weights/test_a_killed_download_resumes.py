"""A process that is killed in the middle leaves its chunks; the next one fetches only the rest."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inference.engine.weights.manifest import CHUNK_BYTES, hash_file
from inference.engine.weights.partial import Partial
from tests.inference.engine.weights.conftest import WEIGHTS
from tests.inference.engine.weights.hub import HubServer
from tests.inference.process import ROOT, bare_environment


def _start(cache: Path, hub: HubServer) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.inference.engine.weights.download_files", cache, hub.url],
        cwd=ROOT,
        env=bare_environment(),
        stdout=subprocess.PIPE,
        text=True,
    )


def test_a_process_killed_in_the_middle_is_continued_by_another(
    hub: HubServer, source: Path, tmp_path: Path
) -> None:
    hub.gate_after = 2
    killed = _start(tmp_path / "cache", hub)
    until = time.monotonic() + 30
    while hub.gate_after >= 0 and time.monotonic() < until:
        time.sleep(0.01)
    # The third range is being waited for, so two chunks are on the disk.
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert killed.stdout is not None
    killed.stdout.close()
    assert hub.bytes_of(WEIGHTS) == (source / WEIGHTS).stat().st_size
    hub.gate_after, before = None, len(hub.given)
    hub.gate.set()
    done = _start(tmp_path / "cache", hub)
    out, _ = done.communicate(timeout=60)
    assert json.loads(out)["files"][WEIGHTS] == hash_file(source / WEIGHTS)[1]
    again = [(start, stop) for path, start, stop in hub.given[before:] if path == WEIGHTS]
    assert again == [(2 * CHUNK_BYTES, (source / WEIGHTS).stat().st_size)]


def test_two_processes_fetch_each_file_once(hub: HubServer, source: Path, tmp_path: Path) -> None:
    hub.delay_s = 0.2
    both = [_start(tmp_path / "cache", hub) for _ in range(2)]
    outs = [json.loads(process.communicate(timeout=60)[0]) for process in both]
    assert outs[0]["files"] == outs[1]["files"]
    for path in outs[0]["files"]:
        # Each process reads the index itself, to learn which files the pipeline has.
        expected = (source / path).stat().st_size * (3 if path == "model_index.json" else 1)
        assert hub.bytes_of(path) == expected, path
    sources = sorted(row["source"][:3] for out in outs for row in out["sources"])
    assert "cac" in sources


CHUNK = 16


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_whatever_was_written_before_the_end_is_the_file(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    body = data.draw(st.binary(min_size=0, max_size=5 * CHUNK))
    path = tmp_path_factory.mktemp("partial") / "x.part"
    plain = path.with_suffix(".plain")
    plain.write_bytes(body)
    count = -(-len(body) // CHUNK)
    for _ in range(data.draw(st.integers(0, 3))):  # tries that were cut short
        with Partial(path, len(body), chunk_bytes=CHUNK) as partial:
            kept = data.draw(st.sets(st.sampled_from(partial.missing() or [0])))
            for number in kept & set(partial.missing()):
                start, stop = partial.span(number)
                partial.write(number, body[start:stop])
        if data.draw(st.booleans()):  # the last line of the journal is torn
            journal = path.with_suffix(".journal")
            journal.write_bytes(journal.read_bytes()[: data.draw(st.integers(0, 200))])
        if len(body) and data.draw(st.booleans()):  # the disk lost a byte
            at = data.draw(st.integers(0, len(body) - 1))
            torn = bytearray(path.read_bytes())
            torn[at] ^= 1
            path.write_bytes(torn)
    with Partial(path, len(body), chunk_bytes=CHUNK) as partial:
        missing = partial.missing()
        assert partial.resumed + sum(b - a for a, b in map(partial.span, missing)) == len(body)
        for number in reversed(missing):
            start, stop = partial.span(number)
            partial.write(number, body[start:stop])
        whole, chunks = partial.finish()
    assert path.read_bytes() == body
    assert whole == hash_file(plain)[1]
    assert len(chunks) == count


def test_a_chunk_of_another_list_is_fetched_again(tmp_path: Path) -> None:
    path, body = tmp_path / "x.part", bytes(range(40))
    with Partial(path, 40, chunk_bytes=CHUNK) as partial:
        for number in range(3):
            start, stop = partial.span(number)
            partial.write(number, body[start:stop])
        _, chunks = partial.finish()
    with Partial(path, 40, (chunks[0], "0" * 64, chunks[2]), chunk_bytes=CHUNK) as partial:
        assert partial.missing() == [1]
