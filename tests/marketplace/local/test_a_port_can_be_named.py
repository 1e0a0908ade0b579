"""PORT names where `make run` and `make demo` answer; what is no port is refused in a line."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from marketplace.local.environment import REPOSITORY, port_given
from marketplace.local.processes import LocalError


def test_a_port_is_a_number_in_range() -> None:
    assert port_given({"PORT": "8123"}) == 8123
    assert port_given({}) is port_given({"PORT": ""}) is None
    for text in ("0", "65536", "-1", "http"):
        with pytest.raises(LocalError, match=f"not '{text}'"):
            port_given({"PORT": text})


@pytest.mark.parametrize("command", ["run", "demo"])
def test_both_commands_take_the_port_that_is_named(tmp_path: Path, command: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = subprocess.run(
            [sys.executable, "-m", "marketplace.local", command],
            cwd=REPOSITORY,
            env={**os.environ, "VAR_DIR": str(tmp_path), "PORT": str(port)},
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert ended.returncode == 1
    assert f"Port {port} is in use by another program" in ended.stderr
