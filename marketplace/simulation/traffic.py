"""What happens in a simulated month: calls, reports of workers, changes of mind, refunds."""

from __future__ import annotations

import random
import uuid
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from billing.models import RefundReason
from billing.refunds import charge_refund
from inference import protocol
from marketplace.core.clock import now
from marketplace.core.errors import MarketError
from marketplace.core.storage import LocalStorage, storage
from marketplace.jobs import dispatch, services
from marketplace.jobs.models import LIVE, Job
from marketplace.simulation.people import Cast, licence_of, list_version, reprice

PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c4944415408d763f8cfc0"
    "000003010100c9fe92ef0000000049454e44ae426082"
)
"""A picture of one pixel: what every simulated worker draws."""


@dataclass(slots=True)
class Traffic:
    """The state of the traffic, and what it has done so far."""

    rng: random.Random
    cast: Cast
    running: list[uuid.UUID] = field(default_factory=list)
    reports: list[protocol.JobFinished | protocol.JobFailed] = field(default_factory=list)
    charged: list[uuid.UUID] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)
    pending: dict[str, Any] | None = None

    def submit(self) -> None:
        """Call a model; the client repeats a call whose answer was lost, under the same key."""
        customer = self.rng.choice(self.cast.customers)
        version = self.rng.choice(self.cast.versions)
        call = {
            "org": customer.org,
            "ref": version.model.ref,
            "given": {
                "prompt": "a red circle",
                "num_images": self.rng.randint(1, 4),
                "width": self.rng.choice((64, 512, 1024)),
                "num_inference_steps": self.rng.randint(1, 50),
            },
            "api_key": customer.key,
            "idempotency_key": uuid.UUID(int=self.rng.getrandbits(128)).hex,
        }
        self.pending = call
        self.resubmit()

    def resubmit(self) -> None:
        """Send the call that has not been answered (again)."""
        if self.pending is None:
            return
        try:
            job, replayed = services.job_submit(**self.pending)
        except MarketError as error:
            self.done[f"refused: {error.code}"] += 1
        else:
            if not replayed or job.pk not in self.running:
                self.running.append(job.pk)
            self.done["submitted"] += 1
        self.pending = None

    def work(self) -> None:
        """Let a worker end a job: well, badly, or in part; its report is on the way."""
        if not self.running:
            return
        pk = self.running.pop(self.rng.randrange(len(self.running)))
        job = Job.objects.select_related("version__model__org").get(pk=pk)
        if job.status not in LIVE:
            return
        chance = self.rng.random()
        if chance < 0.08:
            services.job_cancel(org=job.org, job=job)
            self.done["cancelled"] += 1
        elif chance < 0.16:
            self.reports.append(_failed(job))
        else:
            asked = job.input["num_images"]
            count = asked if chance > 0.25 else self.rng.randint(1, asked)
            self.reports.append(_finished(self.rng, job, count))

    def report(self) -> None:
        """Deliver a report; the queue delivers some twice, and some late."""
        if not self.reports:
            return
        index = self.rng.randrange(len(self.reports))
        message = self.reports[index]
        if isinstance(message, protocol.JobFailed):
            services.job_failed(message)
        elif services.job_finished(message):
            self.charged.append(uuid.UUID(message.job_id))
            self.done["charged"] += 1
        if self.rng.random() < 0.9:
            self.reports.remove(message)

    def refund(self) -> None:
        """Give money of an old charge back, sometimes twice under one key."""
        if not self.charged:
            return
        pk = self.rng.choice(self.charged)
        try:
            charge_refund(
                source_id=pk,
                key=f"simulated:{self.rng.randrange(3)}",
                reason=self.rng.choice(list(RefundReason)),
                amount_nano=self.rng.choice((None, 1, 1000, 333_333)),
            )
            self.done["refunded"] += 1
        except MarketError:
            self.done["nothing to refund"] += 1

    def change_terms(self) -> None:
        """A vendor changes a price, a licence, or lists another model."""
        version = self.rng.choice(self.cast.versions)
        kind = self.rng.random()
        if kind < 0.7:
            reprice(self.rng, version)
        elif kind < 0.9:
            licence_of(self.rng, version.model.org)
        elif len(self.cast.versions) < 40:
            list_version(self.rng, self.cast, self.rng.choice(self.cast.vendors), version)
        self.done["terms changed"] += 1


def _failed(job: Job) -> protocol.JobFailed:
    return protocol.JobFailed(
        job_id=str(job.pk),
        attempt=job.attempt,
        token=dispatch.attempt_token(job.pk, job.attempt),
        trace_id=job.trace_id,
        worker_id="simulated",
        code="engine_error",
        message="",
        retryable=False,
        at=_seconds(job.created_at),
    )


def _finished(rng: random.Random, job: Job, count: int) -> protocol.JobFinished:
    store = storage()
    if not isinstance(store, LocalStorage):
        raise TypeError("a simulation writes to local storage only")
    outputs = []
    for index in range(count):
        key = dispatch.output_key(job, index)
        size, digest = store.write(key, [PIXEL], 10_000)
        outputs.append(
            protocol.Output(
                index=index,
                key=key,
                content_type=dispatch.output_type(job),
                size=size,
                sha256=digest,
                width=job.input["width"],
                height=job.input["height"],
                seconds=None,
            )
        )
    steps = job.input["num_inference_steps"] * count
    return protocol.JobFinished(
        job_id=str(job.pk),
        attempt=job.attempt,
        token=dispatch.attempt_token(job.pk, job.attempt),
        trace_id=job.trace_id,
        worker_id="simulated",
        outputs=outputs,
        usage=protocol.Usage(
            images=count, steps=steps, engine_ms=rng.randint(1, 90_000), output_seconds=0
        ),
        result={"seed": 7},
        at=_seconds(now()),
    )


def _seconds(moment: datetime) -> float:
    return moment.timestamp()
