"""The control plane's side of the contract: sends jobs, takes uploads, reads the answers."""

from __future__ import annotations

import http.server
import json
import threading
import time
import uuid
from queue import Empty
from typing import Any, Self

import redis
from celery import Celery
from kombu import Connection

from inference.engine.weights import NOOP_DIGEST, Model
from inference.protocol import (
    QUEUE_CONTROL,
    TASK_FAILED,
    TASK_FINISHED,
    TASK_RUN,
    TASK_STARTED,
    JobFailed,
    JobFinished,
    JobStarted,
    RunJob,
    UploadSlot,
    VersionSpec,
    cancel_key,
    events_key,
    gpu_queue,
)

Answer = JobStarted | JobFinished | JobFailed
TYPES: dict[str, type[Answer]] = {
    TASK_STARTED: JobStarted,
    TASK_FINISHED: JobFinished,
    TASK_FAILED: JobFailed,
}
NOOP = Model(uri="noop:", digest=NOOP_DIGEST, family="noop")


class Receiver:
    """Takes PUTs and keeps them by path, and gives them back.

    `refuse` answers the next so many requests with HTTP 503; `cut` breaks the next GETs off; a PUT
    to a path of `held` is answered when its event is set.
    """

    def __init__(self) -> None:
        self.bodies: dict[str, bytes] = {}
        self.headers: dict[str, dict[str, str]] = {}
        self.puts: list[str] = []
        self.gets: list[str] = []
        self.refuse = 0
        self.cut = 0
        self.held: dict[str, threading.Event] = {}
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_PUT(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                path = self.path.partition("?")[0]
                receiver.puts.append(path)
                if path in receiver.held:
                    receiver.held[path].wait()
                status = 200
                if receiver.refuse:
                    receiver.refuse -= 1
                    status = 503
                else:
                    receiver.bodies[path] = body
                    receiver.headers[path] = dict(self.headers)
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                receiver.gets.append(path)
                body = receiver.bodies.get(path, b"")
                status = 200 if path in receiver.bodies else 404
                if receiver.refuse:
                    receiver.refuse -= 1
                    status, body = 503, b""
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if receiver.cut:
                    receiver.cut -= 1
                    self.wfile.write(body[: len(body) // 2])
                    self.close_connection = True
                    return
                try:
                    self.wfile.write(body)
                except OSError:  # the reader has had enough
                    self.close_connection = True

            def log_message(self, *_: Any) -> None:
                return None

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class Control:
    """Sends RunJob messages and collects what workers answer, by job."""

    def __init__(self, url: str, receiver: Receiver) -> None:
        self.receiver = receiver
        self.valkey = redis.Redis.from_url(url, decode_responses=True)
        self._app = Celery("tests", broker=url)
        self._connection = Connection(url)
        self._queue = self._connection.SimpleQueue(QUEUE_CONTROL)
        self._answers: list[Answer] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._queue.close()
        self._connection.release()
        self._app.close()
        self.valkey.close()

    def input(self, body: bytes) -> str:
        """Store an input file and return its address, as the control plane signs it."""
        path = f"/in/{uuid.uuid4()}"
        self.receiver.bodies[path] = body
        return f"{self.receiver.url}{path}?signature=hidden"

    def job(self, model: Model = NOOP, hardware_class: str = "small", **changes: Any) -> RunJob:
        """Return a job; `changes` are fields of RunJob, or `profile`, which is the version's.

        It uploads as many as it draws.
        """
        job_id = str(uuid.uuid4())
        profile = changes.pop("profile", {})
        values: dict[str, Any] = {"input": {"prompt": "a red circle", "width": 64, "height": 64}}
        values.update(changes)
        slots = [
            UploadSlot(
                index=index,
                key=f"out/{job_id}/{index}.png",
                url=f"{self.receiver.url}/out/{job_id}/{index}.png?signature=hidden",
                headers={"Content-Type": "image/png", "X-Slot": str(index)},
            )
            for index in range(values["input"].get("num_images", 1))
        ]
        values.setdefault("uploads", slots)
        values.setdefault("deadline", time.time() + 60)
        return RunJob(
            job_id=job_id,
            attempt=1,
            token=f"token-{job_id}",
            trace_id=f"trace-{job_id}",
            version=VersionSpec(
                id="version-1",
                ref="acme/tiny@1",
                weights_uri=model.uri,
                weights_digest=model.digest or "",
                family=model.family,
                profile=profile,
            ),
            max_engine_s=values.pop("max_engine_s", 30.0),
            queue=gpu_queue(hardware_class),
            **values,
        )

    def send(self, job: RunJob) -> RunJob:
        """Put a job on its queue."""
        self.send_raw(job.to_dict(), job.queue)
        return job

    def send_raw(self, message: dict[str, Any], queue: str) -> None:
        """Put anything on a queue."""
        self._app.send_task(TASK_RUN, args=[message], queue=queue, ignore_result=True)

    def answers(self, job: RunJob) -> list[Answer]:
        """Return the answers about `job` that have come so far."""
        self._take(0.01)
        return [answer for answer in self._answers if answer.job_id == job.job_id]

    def end(self, job: RunJob, timeout: float = 30.0) -> JobFinished | JobFailed:
        """Wait for the answer that ends `job`."""
        until = time.monotonic() + timeout
        while time.monotonic() < until:
            for answer in self.answers(job):
                if not isinstance(answer, JobStarted):
                    return answer
            self._take(0.2)
        raise AssertionError(f"no end of job {job.job_id} after {timeout} s")

    def take_ends(self, timeout: float) -> list[JobFinished | JobFailed]:
        """Return the answers that have ended jobs since the last call; they are then forgotten."""
        self._take(timeout)
        answers, self._answers = self._answers, []
        return [answer for answer in answers if not isinstance(answer, JobStarted)]

    def finished(self, job: RunJob, timeout: float = 30.0) -> JobFinished:
        """Wait for the end of `job`, which must be a success."""
        end = self.end(job, timeout)
        assert isinstance(end, JobFinished), end
        return end

    def failed(self, job: RunJob) -> JobFailed:
        """Wait for the end of `job`, which must be a failure."""
        end = self.end(job)
        assert isinstance(end, JobFailed), end
        return end

    def cancel(self, job: RunJob) -> None:
        """Ask the job to stop."""
        self.valkey.set(cancel_key(job.job_id), "1", ex=60)

    def events(self, job: RunJob) -> list[tuple[str, dict[str, Any]]]:
        """Return the job's events so far as (type, data)."""
        entries: Any = self.valkey.xrange(events_key(job.job_id))
        return [(fields["type"], json.loads(fields["data"])) for _, fields in entries]

    def wait_for_event(self, job: RunJob, kind: str, timeout: float = 20.0) -> None:
        """Wait until an event of type `kind` has come."""
        until = time.monotonic() + timeout
        while kind not in [event for event, _ in self.events(job)]:
            assert time.monotonic() < until, f"no {kind} event after {timeout} s"
            time.sleep(0.005)

    def unacknowledged(self) -> int:
        """Return the number of messages that workers hold without having acknowledged them."""
        count: Any = self.valkey.hlen("unacked.gpu")
        return int(count)

    def _take(self, timeout: float) -> None:
        while True:
            try:
                message = self._queue.get(timeout=timeout)
            except Empty:
                return
            message.ack()
            task = TYPES[message.headers["task"]]
            self._answers.append(task.from_dict(message.payload[0][0]))
            timeout = 0.01
