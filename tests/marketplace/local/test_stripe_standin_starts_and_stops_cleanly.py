"""Starting on a taken port and stopping by Ctrl-C end in a line, not in a traceback."""

from __future__ import annotations

import signal
import socket

import psutil
import pytest

from tests.stripe_standin import Handle, start


def test_a_taken_port_is_one_clear_line() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        pytest.raises(RuntimeError, match=r"cannot start: .*in use") as failure,
    ):
        start(server.getsockname()[1])
    assert "Traceback" not in str(failure.value)


def test_ctrl_c_stops_it_at_once_with_a_client_connected() -> None:
    standin = start()
    standin.customer()
    standin.process.send_signal(signal.SIGINT)
    assert standin.process.wait(5) == 0
    assert "Traceback" not in standin.log.read_text()


def test_it_listens_on_this_machine_only(standin: Handle) -> None:
    port = int(standin.url.rpartition(":")[2])
    process = psutil.Process(standin.process.pid)
    listening = [c.laddr for c in process.net_connections() if c.status == psutil.CONN_LISTEN]
    assert [(address.ip, address.port) for address in listening] == [("127.0.0.1", port)]
