"""`make bench-clients`: what 500 followers and 500 held answers cost one web process.

PostgreSQL, Valkey, the web process and the load share this machine, which is named in the result.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from tests.billing.bench.report import _commit, _cpu
from tests.clients.bench.load import Follower, Wire, hold, submit
from tests.pages.bench.__main__ import _services, _web

if TYPE_CHECKING:
    from marketplace.jobs.models import Job

ORGS = 10
EVENTS_PER_S = 50
LOG = 2.0  # seconds for connections to settle before memory is read


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def spread(seconds: list[float]) -> dict[str, float]:
    """Return p50, p95 and the worst in ms."""
    cuts = statistics.quantiles(seconds, n=20, method="inclusive")
    return {
        "p50": round(cuts[9] * 1000, 1),
        "p95": round(cuts[18] * 1000, 1),
        "max": round(max(seconds) * 1000, 1),
    }


def _people() -> tuple[str, list[str]]:
    """Return the model to call and a key of each of ORGS organisations with money."""
    from billing import services as billing
    from marketplace.accounts import services as accounts
    from marketplace.core.money import to_nano
    from tests.cast import make_cast, person

    cast, keys = make_cast(), []
    for number in range(ORGS):
        org = accounts.organisation_create(
            name=f"Org {number}", owner=person(f"owner{number}"), slug=f"org-{number}"
        )
        billing.credit_top_up(org_id=org.pk, amount_nano=to_nano("1000"), source=f"bench:{org.pk}")
        keys.append(accounts.api_key_create(org=org, name="bench", scopes=["run", "read"])[1])
    return cast.ref, keys


def _rss(port: int) -> int:
    """Return the bytes that the web process has in memory."""
    for process in psutil.process_iter(["cmdline"]):
        if f"--port {port}" in " ".join(process.info["cmdline"] or []):
            return int(process.memory_info().rss)
    raise SystemExit("there is no web process")


async def _tell(followers: list[Follower], seconds: float) -> None:
    """Tell progress of jobs drawn by chance, each with the moment."""
    from marketplace.jobs import events

    draw, until, step = random.Random(7), time.monotonic() + seconds, 0
    while time.monotonic() < until:
        step += 1
        job = draw.choice(followers).job
        events.emit(job, "progress", {"step": step, "steps": 10**6, "at": time.monotonic()})
        await asyncio.sleep(1 / EVENTS_PER_S)


async def _followed(port: int, wire: Wire, count: int, seconds: float) -> dict[str, Any]:
    """Measure with `count` followers of as many jobs."""
    jobs = [await submit(wire, number) for number in range(max(count, 1))]
    await asyncio.sleep(LOG)
    before = _rss(port)
    followers = [Follower(job, number) for number, (job, _) in enumerate(jobs[:count])]
    await asyncio.gather(*(follower.open(wire) for follower in followers))
    await asyncio.sleep(LOG)
    found: dict[str, Any] = {"rss_mib": round(_rss(port) / 2**20, 1)}
    if count:
        found["kib_per_follower"] = round((_rss(port) - before) / count / 1024, 1)
    telling = asyncio.ensure_future(_tell(followers, seconds)) if followers else None
    took, until = [], time.monotonic() + seconds
    while time.monotonic() < until:
        took.append((await submit(wire, len(took)))[1])
    found |= {"submit_ms": spread(took), "submits_per_s": round(len(took) / seconds, 1)}
    if telling is not None:
        await telling
        await asyncio.sleep(1)
        late = [each for follower in followers for each in follower.late]
        found |= {"event_ms": spread(late), "events": len(late)}
    for follower in followers:
        follower.close()
    return found


def _end(job: str) -> None:
    from marketplace.jobs import services
    from marketplace.jobs.models import Job

    row: Job = Job.objects.select_related("org").get(pk=job)
    services.job_cancel(org=row.org, job=row)


async def _held(port: int, wire: Wire, count: int) -> dict[str, Any]:
    """Measure `count` answers that are held at once, and how soon each comes after the end."""
    from marketplace.jobs.models import Job

    known = {str(pk) async for pk in Job.objects.values_list("pk", flat=True)}
    before, began = _rss(port), time.monotonic()
    answers = [asyncio.ensure_future(hold(wire, number)) for number in range(count)]
    while await Job.objects.acount() < len(known) + count:
        await asyncio.sleep(0.05)
    accepted = time.monotonic() - began
    await asyncio.sleep(LOG)
    found = {
        "accepted_s": round(accepted, 2),
        "kib_per_answer": round((_rss(port) - before) / count / 1024, 1),
    }
    fresh = [str(pk) async for pk in Job.objects.values_list("pk", flat=True)]
    ended: dict[str, float] = {}
    for job in set(fresh) - known:
        await asyncio.to_thread(_end, job)
        ended[job] = time.monotonic()
    told = await asyncio.gather(*answers)
    held = [(job, at) for job, status, at in told if status == "cancelled"]
    found["answered_with_the_end"] = len(held)  # others were held for their 60 s
    found["end_to_answer_ms"] = spread([at - ended[job] for job, at in held])
    found["cancels_per_s"] = round(count / (max(ended.values()) - min(ended.values())), 1)
    return found


async def _measure(port: int, options: argparse.Namespace) -> dict[str, Any]:
    ref, keys = await asyncio.to_thread(_people)
    wire, found = Wire(port, ref, keys), {}
    for number in range(30):  # caches fill, connections open
        await submit(wire, number)
    # First, since what followers leave behind would blur what an answer takes.
    _say(f"{options.held} held answers")
    held = await _held(port, wire, options.held)
    _say(json.dumps(held))
    for count in options.followers:
        _say(f"{count} followers")
        found[str(count)] = await _followed(port, wire, count, options.seconds)
        _say(json.dumps(found[str(count)]))
    return {"followers": found, "held": {str(options.held): held}}


def main() -> None:
    """Measure, print a JSON line, keep it where `--out` says."""
    parser = argparse.ArgumentParser(prog="make bench-clients", description=__doc__)
    parser.add_argument("--followers", type=int, nargs="+", default=[0, 50, 500])
    parser.add_argument("--held", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    os.environ |= {"STREAMS_PER_ORG": "1000", "READS_PER_SECOND": "1000", "READS_BURST": "10000"}
    with tempfile.TemporaryDirectory(prefix="mercato-bench-") as folder:
        home = Path(folder)
        home.chmod(0o755)  # PostgreSQL runs as a user of its own
        with _services(home) as port, _web(port, home / "web.log"):
            device = {"cpu": _cpu(), "cores": os.cpu_count(), "load": os.getloadavg()[0]}
            found = asyncio.run(_measure(port, options))
    line = {"bench": "clients", "device": device, "commit": _commit(), **found}
    print(json.dumps(line))
    if options.out:
        options.out.write_text(json.dumps(line, indent=1) + "\n")


if __name__ == "__main__":
    main()
