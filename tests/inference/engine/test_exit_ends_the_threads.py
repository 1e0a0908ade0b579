"""A process that exits with an engine at work exits cleanly: nothing aborts inside torch."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from tests.inference.process import ROOT

BUSY = """
import threading
from inference.engine.families import model_at
from inference.engine.request import GenerationRequest
from inference.engine.runner import Engine

engine, begun = Engine(), threading.Event()
request = GenerationRequest(prompt="a red circle", steps=200)
future = engine.submit(
    model_at("starter:starter-image"), request, on_progress=lambda *_: begun.set()
)
future.add_done_callback(lambda _: begun.set())
assert begun.wait(60)
assert not future.done(), future.exception()
"""
LOADING = """
import threading
from inference.engine import endings

started = threading.Event()

def loop():
    import torch
    started.set()
    while not dropped.is_set():
        torch.randn(400, 400) @ torch.randn(400, 400)
    print("ended")

dropped = threading.Event()
thread = threading.Thread(target=loop, daemon=True)
thread.start()
endings.end_at_exit(thread, dropped.set)
started.wait()
"""


@pytest.mark.parametrize("code", [BUSY, LOADING], ids=["a-picture-half-drawn", "a-thread-in-torch"])
def test_an_exit_waits_for_the_turn_and_no_longer(code: str) -> None:
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "terminate called" not in done.stderr
    assert done.stdout == ("ended\n" if code is LOADING else "")
    assert time.monotonic() - began < 60
