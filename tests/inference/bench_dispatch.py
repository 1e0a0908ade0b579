"""Measures how long a worker alone takes to start and finish a job that costs no engine time.

`python -m tests.inference.bench_dispatch [jobs]` prints one JSON line; times are milliseconds
from before the message is sent: to JobStarted.at, and to JobFinished.at.
"""

from __future__ import annotations

import json
import statistics
import sys
import time

from inference.protocol import JobFinished, JobStarted
from tests.inference.control import Control, Receiver
from tests.inference.process import WorkerProcess
from tests.inference.valkey import start_valkey

WARM_UP = 20


def _spread(values: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(values, n=100, method="inclusive")
    return {"p50": round(cuts[49] * 1000, 2), "p99": round(cuts[98] * 1000, 2)}


def main() -> None:
    jobs = int(sys.argv[1]) if len(sys.argv) > 1 else 300
    started, finished = [], []
    with start_valkey() as server, Receiver() as receiver:
        url = f"{server.connection_url}/0"
        with Control(url, receiver) as control, WorkerProcess({"BROKER_URL": url}):
            for number in range(WARM_UP + jobs):
                job = control.job()
                sent = time.time()
                control.send(job)
                control.end(job)
                if number < WARM_UP:
                    continue
                for answer in control.answers(job):
                    if isinstance(answer, JobStarted):
                        started.append(answer.at - sent)
                    elif isinstance(answer, JobFinished):
                        finished.append(answer.at - sent)
    line = {"bench": "dispatch", "jobs": jobs}
    print(json.dumps({**line, "started_ms": _spread(started), "finished_ms": _spread(finished)}))


if __name__ == "__main__":
    main()
