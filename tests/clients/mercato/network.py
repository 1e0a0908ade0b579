"""A network that breaks where a test wants it to: a proxy before the live server."""

import socket
import threading
import time
from urllib.parse import urlsplit

PASS, CLOSE, LOSE_ANSWER = -1, 0, -2


class Network:
    """Passes connections on. Each new one is dealt with by the next of `faults`, then passed.

    CLOSE ends it at once; LOSE_ANSWER lets the request through and drops the answer; a positive
    number lets so many bytes of the answer through.
    """

    def __init__(self, target: str) -> None:
        parts = urlsplit(target)
        self._target = (parts.hostname, parts.port)
        self._place = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._place.getsockname()[1]}"
        self.faults: list[int] = []
        self.connections = 0
        self.answer = b""
        self.answers_after_s = 0.0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._place.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._place.accept()
            except OSError:
                return
            self.connections += 1
            fault = self.faults.pop(0) if self.faults else PASS
            threading.Thread(target=self._serve, args=(near, fault), daemon=True).start()

    def _serve(self, near: socket.socket, fault: int) -> None:
        if fault == CLOSE:
            near.close()
            return
        if self.answer:
            near.recv(65536)
            near.sendall(self.answer)
            near.close()
            return
        far = socket.create_connection(self._target)
        threading.Thread(target=self._pump, args=(near, far, PASS), daemon=True).start()
        self._pump(far, near, fault, self.answers_after_s)

    @staticmethod
    def _pump(source: socket.socket, to: socket.socket, most: int, after_s: float = 0) -> None:
        left = most
        try:
            while chunk := source.recv(65536):
                time.sleep(after_s)
                if most == LOSE_ANSWER:
                    break
                if most > 0:
                    chunk = chunk[:left]
                    left -= len(chunk)
                to.sendall(chunk)
                if most > 0 and left == 0:
                    break
        except OSError:
            pass
        finally:
            for end in (source, to):
                try:
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
                end.close()
