"""One simulated month: time moves from event to event, and whatever can go wrong does."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol

import structlog
from django.conf import settings
from django.db import DatabaseError, InterfaceError, OperationalError, connection

from billing import invariants
from billing.models import Hold, Invoice, Payout
from billing.stripe.inbox import event_store
from marketplace.celery import app
from marketplace.core import clock
from marketplace.core.clock import now
from marketplace.jobs.sweeper import sweep
from marketplace.simulation import stripe
from marketplace.simulation.crash import Failpoints, Killed, die
from marketplace.simulation.people import populate
from marketplace.simulation.traffic import Traffic

log = structlog.get_logger("mercato.simulation")
OUTAGE = timedelta(hours=26)
"""Longer than Stripe remembers identifiers and Idempotency-Keys."""
KILL_SHARE = 0.15
CLOSING = timedelta(days=5)
"""How long after the month's end the faults go on."""
TICK = timedelta(hours=3)
EXHAUSTED = {3, 25, 26}
"""Ticks at which invoices, statements and payouts are made: there every failpoint counts."""
TAIL = timedelta(days=12)
"""How long after the month's end its money may take to settle."""


class World(stripe.Side, Protocol):
    """The servers around the simulated process."""

    def stripe_clock(self, moment: datetime) -> None:
        """Set the stand-in's clock."""

    def stripe_faults(self, *, down: bool, noisy: bool) -> None:
        """Let the stand-in misbehave a little (`noisy`), not answer at all (`down`), or well."""

    def stripe_events(self) -> list[tuple[bytes, str]]:
        """Return the webhooks that have arrived since the last call, with their signatures."""

    def restart_postgres(self) -> None:
        """Stop the database server in the middle of everything, and start it again."""


@dataclass(slots=True)
class Report:
    """What a simulated month came to."""

    seed: int
    done: Counter[str]
    failpoints: int
    kills: int
    broken: list[tuple[str, list[Any]]] = field(default_factory=list)


def billing_tasks() -> list[str]:
    """Return the names of all scheduled tasks of billing: what beat would start."""
    names = [str(entry["task"]) for entry in settings.CELERY_BEAT_SCHEDULE.values()]
    return [name for name in names if name.startswith("billing.") and name != "billing.audit"]


class Month:
    """Runs the traffic of a month that begins at `start`."""

    def __init__(
        self,
        world: World,
        *,
        seed: int,
        customers: int,
        jobs: int,
        faults: bool,
        exhaust: bool,
        start: datetime,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.world, self.seed, self.say = world, seed, say
        self.faults, self.exhaust = faults, exhaust
        self.rng = random.Random(seed)
        self.start, self.end = start, _next_month(start)
        self.customers, self.jobs = customers, jobs
        self.failpoints = Failpoints()
        self.restarts: list[datetime] = []
        self.mail: list[tuple[bytes, str]] = []
        self.down_from = start + (self.end - start) * self.rng.uniform(0.2, 0.6)

    def run(self) -> Report:
        """Simulate the month and its settlement. The report names every broken rule."""
        app.loader.import_default_modules()
        with clock.moved():
            clock.move_to(self.start)
            self.world.stripe_clock(self.start)
            self.traffic = Traffic(self.rng, populate(self.rng, customers=self.customers))
            stripe.enrol(self.rng, self.world, self.traffic.cast)
            self.done = self.traffic.done
            with self.failpoints.installed():
                self._month()
                self._settle()
            return self._report()

    def _month(self) -> None:
        if self.faults:
            self.restarts = sorted(
                self.start + (self.end - self.start) * self.rng.random() for _ in range(2)
            )
        for count, moment in enumerate(self._moments()):
            self._tick(moment)
            self._survive(self._act())
            self._survive(self._hear)
            if self.rng.random() < 0.15:
                self._survive(self._beat())
            if count % max(1, self.jobs // 2) == 0:
                self.say(f"{moment:%d %b %H:%M}  {dict(self.done)}")
                self._audit()

    def _moments(self) -> Iterator[datetime]:
        """Yield the times at which something happens, in order: about five for each job."""
        span = (self.end - self.start).total_seconds() - 1
        yield from (
            self.start + timedelta(seconds=second)
            for second in sorted(self.rng.uniform(0, span) for _ in range(5 * self.jobs))
        )

    def _tick(self, moment: datetime) -> None:
        """Move every clock on, and let the world misbehave as planned."""
        clock.move_to(moment)
        self.world.stripe_clock(moment)
        down = self.faults and self.down_from <= moment < self.down_from + OUTAGE
        self.world.stripe_faults(down=down, noisy=self.faults)
        if self.restarts and moment >= self.restarts[0]:
            self.restarts.pop(0)
            self.world.restart_postgres()
            self.done["PostgreSQL restarted"] += 1

    def _act(self) -> Callable[[], None]:
        """Choose what happens next."""
        traffic = self.traffic
        if traffic.pending is not None:
            return traffic.resubmit
        choices: list[tuple[Callable[[], None], int]] = [
            (traffic.submit, 20),
            (traffic.work, 22),
            (traffic.report, 26),
            (traffic.refund, 2),
            (self._pay, 2),
            (traffic.change_terms, 1),
        ]
        return self.rng.choices([c for c, _ in choices], [w for _, w in choices])[0]

    def _pay(self) -> None:
        self.done[stripe.pay(self.rng, self.world, self.traffic.cast)] += 1

    def _hear(self) -> None:
        """Take in the webhooks that have arrived; what is not stored yet, Stripe sends again."""
        self.mail += self.world.stripe_events()
        while self.mail:
            event_store(*self.mail[0], settings.STRIPE_WEBHOOK_SECRET)
            self.mail.pop(0)

    def _beat(self) -> Callable[[], Any]:
        """Choose a scheduled task, in any order: each must stand any order."""
        name = self.rng.choice([*billing_tasks(), "jobs.sweep"])
        return sweep if name == "jobs.sweep" else app.tasks[name]

    def _survive(self, act: Callable[[], Any]) -> None:
        """Do something; when the process is killed in it, begin anew with what is stored."""
        if self.exhaust:
            for point in itertools.count():
                if not self._killed_at(point, act):
                    return
        if self.faults and self.rng.random() < KILL_SHARE:
            self._killed_at(self.rng.randrange(30), act)
        else:
            self._killed_at(None, act)

    def _killed_at(self, point: int | None, act: Callable[[], Any]) -> bool:
        """Do something with the process killed at a failpoint of it. Returns whether it was."""
        self.failpoints.arm(point)
        try:
            act()
        except Killed:
            self.done["killed"] += 1
            die()
            return True
        except (OperationalError, InterfaceError) as error:
            self.done[f"database: {type(error).__name__}"] += 1
            connection.close()
        finally:
            self.failpoints.arm(None)
        return False

    def _settle(self) -> None:
        """Let the month end, and everything that waits come to its end.

        The faults go on over the days in which invoices and statements are made.
        """
        exhaust, self.exhaust = self.exhaust, False
        while self.traffic.pending or self.traffic.running or self.traffic.reports:
            self._tick(now() + timedelta(seconds=1))
            for act in (self.traffic.resubmit, self.traffic.work, self.traffic.report):
                self._survive(act)
        self.say(f"the month has ended  {dict(self.done)}")
        for tick in itertools.count():
            if now() >= self.end + TAIL:
                break
            self.faults = self.faults and now() <= self.end + CLOSING
            self._tick(max(self.end, now() + TICK))
            self.exhaust = exhaust and tick in EXHAUSTED
            self._survive(self._hear)
            names = billing_tasks()
            for name in self.rng.sample(names, len(names)):
                self._survive(app.tasks[name])
            if self.rng.random() < 0.1:
                self._survive(self.traffic.refund)
            self._survive(sweep)

    def _audit(self) -> None:
        broken = [finding for finding in invariants.audit() if finding.rows]
        if broken:
            raise BrokenRules([(finding.rule, finding.rows) for finding in broken])

    def _report(self) -> Report:
        report = Report(self.seed, self.done, self.failpoints.passed, self.failpoints.kills)
        report.broken = [(f.rule, f.rows) for f in invariants.audit() if f.rows]
        sums = invariants.totals()
        if sums["debits"] != sums["credits"]:
            report.broken.append(("debits equal credits", [sums]))
        report.broken += stripe.differences(self.world)
        self.done.update(f"incident: {rule}" for rule in stripe.incidents())
        self.done["invoices"] = Invoice.objects.exclude(status="draft").count()
        self.done["invoices paid"] = Invoice.objects.filter(status="paid").count()
        self.done["payouts"] = Payout.objects.filter(state="sent").count()
        if open_holds := Hold.objects.filter(state="open").count():
            report.broken.append(("every hold has ended", [open_holds]))
        return report


class BrokenRules(DatabaseError):
    """Rules of the ledger that do not hold in the middle of a month."""


def _next_month(moment: datetime) -> datetime:
    return (moment.replace(day=1) + timedelta(days=32)).replace(day=1)
