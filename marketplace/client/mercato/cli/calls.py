"""Commands about one call: run, quote, submit, status, follow, cancel."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mercato.cli.lists import found_model
from mercato.cli.saving import Place
from mercato.cli.terminal import Progress, Refused, plain, tell
from mercato.cli.values import input_of
from mercato.client import Mercato
from mercato.money import nano_usd, show
from mercato.types import CANCELLED, Job, Quote

INTERRUPTED = 130


def add(commands: Any) -> None:
    """Add the commands."""
    for name, about, carry_out in (
        ("run", "run a model and save what it makes", run),
        ("quote", "say the most that a call can cost", quote),
        ("submit", "submit a job and print its id", submit),
    ):
        parser: argparse.ArgumentParser = commands.add_parser(name, help=about)
        parser.add_argument("model", help="vendor/name, or vendor/name:3 for a version")
        parser.add_argument(
            "values", nargs="*", metavar="name=value", help="file inputs: name=@path"
        )
        parser.add_argument("--input", metavar="JSON", help="the whole input; @FILE reads it")
        parser.add_argument("--json", action="store_true", help="print the market's answer")
        parser.set_defaults(carry_out=carry_out)
        if name == "quote":
            continue
        parser.add_argument(
            "--max-charge", metavar="DOLLARS", help="refuse a call that could cost more"
        )
        if name == "run":
            parser.add_argument(
                "-o",
                "--output",
                metavar="FILE|DIR",
                help="where outputs go; - writes to standard output",
            )
            parser.add_argument("--force", action="store_true", help="write over files")
            parser.add_argument("--quote", action="store_true", help="only say what it can cost")
            parser.add_argument("--no-wait", action="store_true", help="print the job's id at once")
    for name, others, about, carry_out in (
        ("status", (), "print a job as it is now", status),
        ("follow", ("events",), "print what happens to a job, until its end", follow),
        ("cancel", (), "cancel a job, free of charge", cancel),
    ):
        parser = commands.add_parser(name, aliases=others, help=about)
        parser.add_argument("job", metavar="JOB", help="id of the job")
        parser.add_argument("--json", action="store_true", help="print the market's answer")
        parser.set_defaults(carry_out=carry_out)


def _given(client: Mercato, options: argparse.Namespace) -> dict[str, Any]:
    return input_of(found_model(client, options.model), options.values, options.input)


def show_quote(made: Quote, as_json: bool) -> int:
    """Print a quote."""
    if as_json:
        print(json.dumps(made.raw, indent=2))
    else:
        print(f"At most {show(made.quote_nano_usd)}")
    return 0


def quote(client: Mercato, options: argparse.Namespace) -> int:
    """Say what a call can cost."""
    return show_quote(client.quote(options.model, _given(client, options)), options.json)


def _most(options: argparse.Namespace) -> str | None:
    """Return --max-charge as it was given. Raises Refused."""
    most: str | None = options.max_charge
    try:
        nano_usd(most or "0")
    except ValueError as error:
        raise Refused(f"--max-charge: {error}", 2) from error
    return most


def submit(client: Mercato, options: argparse.Namespace) -> int:
    """Submit, and print the id."""
    most = _most(options)
    job = client.submit(options.model, _given(client, options), max_charge=most)
    print(json.dumps(job.raw, indent=2) if options.json else job.id)
    return 0


class Interrupt:
    """Counts Ctrl-C. The first while a submission is on its way is kept until there is a job."""

    def __init__(self) -> None:
        self.is_held = False
        self.came = False

    def __call__(self, number: int, frame: object) -> None:
        """Take a signal."""
        if self.is_held and not self.came:
            self.came = True
            return
        raise KeyboardInterrupt

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let the block end before the first Ctrl-C counts."""
        before = signal.signal(signal.SIGINT, self)
        self.is_held = True
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)


def run(client: Mercato, options: argparse.Namespace) -> int:
    """Run a model, show how far it is, save what it made, and say what it cost."""
    place = Place(options.output, force=options.force)
    if place.is_stream and options.json:
        raise Refused("-o - and --json do not fit into one standard output.", 2)
    most = _most(options)
    given = _given(client, options)
    if options.quote:
        return show_quote(client.quote(options.model, given), options.json)
    interrupt = Interrupt()
    with interrupt.held():
        job = client.submit(options.model, given, max_charge=most)
    progress = Progress()
    try:
        if interrupt.came:
            raise KeyboardInterrupt
        if options.no_wait:
            print(json.dumps(job.raw, indent=2) if options.json else job.id)
            return 0
        for event in client.iter_events(job.id):
            progress.event(event)
            job = event.job or job
    except KeyboardInterrupt:
        progress.clear()
        return _stop(client, job)
    finally:
        progress.clear()
    return _end(job, place, options.json)


def _stop(client: Mercato, job: Job) -> int:
    """Cancel after Ctrl-C; a second one only stops waiting for the end of the job."""
    tell("Cancelling (Ctrl-C again does not wait for it) …")
    try:
        ended = client.wait(client.cancel(job.id))
    except KeyboardInterrupt:
        tell(f"Left. Ask `mercato status {job.id}` what became of it.")
        return INTERRUPTED
    cost = show(ended.charge_nano_usd)
    if ended.status == "succeeded":
        tell(f"It had ended already, for {cost}: `mercato status {job.id}` has its outputs.")
    else:
        tell(f"The job was {ended.status}. Cost: {cost}")
    return INTERRUPTED


def _end(job: Job, place: Place, as_json: bool) -> int:
    if job.status != "succeeded":
        why = job.error.message if job.error else f"The job was {job.status}."
        if as_json:
            print(json.dumps(job.raw, indent=2))
        raise Refused(f"{plain(why)} Cost: {show(job.charge_nano_usd)} (job {job.id})")
    saved = place.save(job, job.outputs)
    if as_json:
        print(json.dumps({**job.raw, "saved": [str(path) for path in saved]}, indent=2))
    else:
        for path in saved:
            print(path)
    tell(f"Cost: {show(job.charge_nano_usd)}")
    return 0


def _tell(job: Job, as_json: bool) -> None:
    """Print a job."""
    if as_json:
        print(json.dumps(job.raw, indent=2))
        return
    print(f"{job.id}  {job.model}  {job.status}")
    if job.status == "queued" and job.queue_position is not None:
        print(f"before it: {job.queue_position}")
    if job.error:
        print(f"error: {plain(job.error.message)} ({job.error.code})")
    for output in job.outputs:
        print(output.url or "(deleted)")
    if job.charge_nano_usd is None:
        print(f"at most {show(job.quote_nano_usd)}")
    else:
        print(f"cost {show(job.charge_nano_usd)}")


def status(client: Mercato, options: argparse.Namespace) -> int:
    """Print a job as it is now."""
    _tell(client.get(options.job), options.json)
    return 0


def follow(client: Mercato, options: argparse.Namespace) -> int:
    """Print events as they come; Ctrl-C leaves the job running."""
    for event in client.iter_events(options.job):
        if options.json:
            print(json.dumps({"type": event.type, "data": event.data}))
        elif event.job is not None:
            if event.type == "done" or not event.job.is_ended:  # else `done` comes at once
                _tell(event.job, as_json=False)
        elif event.type == "progress":
            print(f"step {event.step} of {event.steps}")
        elif isinstance(event.data, dict) and "message" in event.data:
            print(plain(f"{event.type}: {event.data['message']}"))
        else:
            print(plain(event.type))
        sys.stdout.flush()  # who reads it through a pipe wants to see it too
    return 0


def cancel(client: Mercato, options: argparse.Namespace) -> int:
    """Cancel a job; one that had ended otherwise is a failure."""
    job = client.cancel(options.job)
    _tell(job, options.json)
    if job.status == CANCELLED:
        return 0
    if not job.is_ended:
        tell("It stops at its next step.")
        return 0
    tell("It had ended already.")
    return 1
