"""The whole market as processes of this machine: what is started, in which order, with what."""

from __future__ import annotations

import json
import os
import secrets
import signal
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import redis

from inference import protocol
from marketplace.local import environment
from marketplace.local.environment import REPOSITORY
from marketplace.local.lock import RunLock
from marketplace.local.postgres import PostgresServer
from marketplace.local.processes import (
    Child,
    LocalError,
    Managed,
    run_to_end,
    stop_together,
    tail,
    wait_until,
)
from marketplace.local.valkey import HOST, ValkeyServer, free_port, port_is_free

READY_TIMEOUT_S = 120.0
WORKER_TIMEOUT_S = 120.0
GRACE_S = 10.0

Say = Callable[[str], None]


class Market:
    """Everything of one `var` directory. `start` then `stop`; `managed` is what must stay alive.

    Services named in the environment (DATABASE_URL, BROKER_URL, VALKEY_URL) are used as they
    are; the others are embedded. `embedded` ignores those, and S3 and Stripe in the environment
    too: a demo must not write into a real market.
    """

    def __init__(
        self,
        *,
        var: Path,
        port: int,
        say: Say,
        embedded: bool = False,
        stripe_standin: bool = False,
        extra_env: Mapping[str, str] | None = None,
    ) -> None:
        self.var = var
        self.port = port
        self.url = f"http://{HOST}:{port}"
        self.say = say
        self.stripe_standin = stripe_standin
        inherited = environment.without_real_services() if embedded else os.environ
        self.env: dict[str, str] = {**inherited, **(extra_env or {})}
        self.seed: dict[str, Any] = {}
        # Demo logins go into our own database only, never into one that was given.
        self._owns_database = not self.env.get("DATABASE_URL")
        self._lock = RunLock(var / "run.lock")
        self._services: list[Managed] = []
        self._processes: list[Child] = []

    @property
    def managed(self) -> list[Managed]:
        """Services first: what needs them comes after."""
        return [*self._services, *self._processes]

    def start(self) -> None:
        """Start all of it and wait until it takes jobs. Raises LocalError; stop() cleans up."""
        self._lock.acquire(self.url)
        if not port_is_free(self.port):
            raise LocalError(
                f"Port {self.port} is in use by another program; choose one: PORT={self.port + 1}"
            )
        environment.standin_forget(self.var)
        self._set_environment()
        self._start_database()
        self._start_valkey()
        if self.stripe_standin:
            self._start_stripe_standin()
        self._prepare()
        self._processes = self._plan()
        for process in self._processes:
            process.start()
        self.say("Web, control worker, beat and GPU worker are starting")
        self._wait_for_web()
        self._wait_for_worker()

    def stop(self) -> None:
        """Stop processes, then the services they use, then give the lock back."""
        stop_together(self._processes)
        for service in reversed(self._services):
            service.stop()
        self._lock.release()

    def process(self, name: str) -> Managed:
        """Return a managed process by name. Raises KeyError."""
        return {managed.name: managed for managed in self.managed}[name]

    def _set_environment(self) -> None:
        self.env |= {
            "PORT": str(self.port),
            "PYTHONUNBUFFERED": "1",
            "VAR_DIR": str(self.var),
        }
        # Ctrl-C waits this long for running jobs; what is cut off is taken up by the next start.
        self.env.setdefault("WORKER_DRAIN_S", f"{GRACE_S - 2:.0f}")
        self.env.setdefault("DJANGO_SETTINGS_MODULE", "marketplace.settings")
        self.env.setdefault("PUBLIC_URL", self.url)
        if self._owns_database:
            self.env["LOCAL_STACK"] = "1"
            # Who can reach this market can reach the servers of this machine without it.
            if self.env["PUBLIC_URL"] == self.url:
                self.env.setdefault("OUTBOUND_ALLOW_CIDRS", "127.0.0.0/8")
        # The first picture need not wait for torch and the weights.
        self.env.setdefault("WORKER_PRELOAD", "starter:starter-image")
        # Weights that vendors upload lie in the store, which is a directory here.
        self.env.setdefault("MERCATO_WEIGHTS_DIRS", str(self.var / "media" / "weights"))
        # Idle OpenMP threads that spin would take the cores from the other processes.
        self.env.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        if not self.env.get("SECRET_KEY"):
            self.env["SECRET_KEY"] = environment.secret_key(self.var)

    def _start_database(self) -> None:
        if not self._owns_database:
            self.say("PostgreSQL: the one in DATABASE_URL")
            return
        log = self.var / "log" / "postgres.log"
        server = PostgresServer(self.var / "postgres", log=log)
        self._services.append(server)
        server.start()
        self.env["DATABASE_URL"] = server.url
        self.say("PostgreSQL is up (embedded)")

    def _start_valkey(self) -> None:
        broker = self.env.get("BROKER_URL", "")
        if broker and environment.uses_redis(broker):
            self.env.setdefault("VALKEY_URL", broker)
        if broker and self.env.get("VALKEY_URL"):
            self.say("Broker and Valkey: those in BROKER_URL and VALKEY_URL")
            return
        server = ValkeyServer(self.var / "valkey", log=self.var / "log" / "valkey.log")
        self._services.append(server)
        server.start()
        for name in ("BROKER_URL", "VALKEY_URL"):
            self.env[name] = self.env.get(name) or server.url
        self.say("Valkey is up (embedded)")

    def _start_stripe_standin(self) -> None:
        port = free_port()
        url = f"http://{HOST}:{port}"
        secret = f"whsec_{secrets.token_hex(16)}"
        standin = self._child(
            "stripe-standin",
            *("-m", "marketplace.local.stripe_standin"),
            *("--webhook-url", f"{self.url}/stripe/webhook", "--webhook-secret", secret),
            *("--port", str(port), "--state", str(self.var / "stripe.json")),
            *("--cache", str(environment.var_dir() / "cache")),
        )
        self._services.append(standin)
        standin.start()
        answers = lambda: fetch_status(url) is not None  # noqa: E731
        if not wait_until(answers, alive=standin.is_running, timeout_s=30):
            raise LocalError("The Stripe stand-in did not start", standin.log_tail())
        settings = {
            "STRIPE_API_BASE": url,
            "STRIPE_API_KEY": "sk_test_standin",
            "STRIPE_WEBHOOK_SECRET": secret,
        }
        self.env |= settings
        environment.standin_write(self.var, settings)
        self.say("The Stripe stand-in is up (it is not Stripe: no money moves)")

    def _prepare(self) -> None:
        """Bring the database up to date, collect static files, seed; all three are repeatable."""
        self._manage("migrate", "--no-input", "-v", "0")
        self.say("The database is migrated")
        debug = self.env.get("DEBUG", "").lower() in ("1", "true", "on", "yes")
        if not debug and _static_is_stale(self.var / "static"):
            self._manage("collectstatic", "--no-input", "-v", "0")
            self.say("Static files are collected")
        if not self._owns_database:
            self.say("Nothing is seeded: the database is yours (`manage.py seed` on a local one)")
            return
        output = self._manage("seed", "--json")
        try:
            self.seed = json.loads(output)
        except ValueError as error:
            raise LocalError("`manage.py seed --json` printed no JSON", output[-500:]) from error
        self.say("The market is seeded")

    def _manage(self, *arguments: str) -> str:
        argv = [sys.executable, str(REPOSITORY / "manage.py"), *arguments]
        return run_to_end(f"manage.py {arguments[0]}", argv, env=self.env, cwd=REPOSITORY)

    def _plan(self) -> list[Child]:
        """Return the processes of the market, each with just the environment it needs."""
        web_workers = self.env.get("WEB_CONCURRENCY") or "1"
        web = self._child(
            "web",
            *("-m", "uvicorn", "marketplace.asgi:application", "--host", HOST),
            *("--port", str(self.port), "--workers", web_workers, "--lifespan", "off"),
            *("--timeout-graceful-shutdown", "5", "--ws-max-size", str(2**22)),
        )
        if web_workers != "1":
            web.death_signal = signal.SIGTERM  # uvicorn's parent takes its children down
        celery = ("-m", "celery", "-A", "marketplace")
        control = self._child(
            "worker-control",
            *(*celery, "worker", "--pool=threads", "--concurrency=4", "-n", "control@%h"),
            *("-Q", protocol.QUEUE_CONTROL, "--without-gossip", "--without-mingle"),
        )
        # Apart, so that nobody's slow server delays a settlement.
        outbound = self._child(
            "worker-outbound",
            *(*celery, "worker", "--pool=threads", "--concurrency=4", "-n", "outbound@%h"),
            *("-Q", protocol.QUEUE_OUTBOUND, "--without-gossip", "--without-mingle"),
        )
        beat = self._child(
            "beat",
            *(*celery, "beat", "-s", str(self.var / "beat-schedule"), "--pidfile="),
            "--loglevel=INFO",
        )
        gpu = self._child("worker-gpu", "-m", "inference", "worker")
        gpu.env = environment.worker_environment(self.env)
        return [web, control, outbound, beat, gpu]

    def _child(self, name: str, *arguments: str) -> Child:
        return Child(
            name=name,
            argv=[sys.executable, *arguments],
            log=self.var / "log" / f"{name}.log",
            env=self.env,
            cwd=REPOSITORY,
            stop_timeout_s=GRACE_S,
        )

    def _wait_for_web(self) -> None:
        url = f"{self.url}/readyz"
        self._wait(lambda: fetch_status(url) == 200, READY_TIMEOUT_S, f"{url} to say yes")
        self.say(f"Web answers on {self.url}")

    def _wait_for_worker(self) -> None:
        with redis.Redis.from_url(self.env["VALKEY_URL"], decode_responses=True) as valkey:
            self._wait(lambda: _a_worker_lives(valkey), WORKER_TIMEOUT_S, "a GPU worker")
        self.say("A GPU worker has announced itself")

    def _wait(self, ready: Callable[[], bool], timeout_s: float, what: str) -> None:
        """Wait for `ready`, with a line every 10 s. Raises LocalError when a process ends."""
        begin = time.monotonic()
        while time.monotonic() - begin < timeout_s:
            if wait_until(ready, alive=self._all_run, timeout_s=10, every_s=0.1):
                return
            for managed in self.managed:
                if not managed.is_running():
                    raise LocalError(f"{managed.name} ended while starting", managed.log_tail())
            self.say(f"Still waiting for {what}")
        raise LocalError(f"Waited {timeout_s:.0f} s in vain for {what}", self._tails())

    def _all_run(self) -> bool:
        return all(managed.is_running() for managed in self.managed)

    def _tails(self) -> str:
        return "\n".join(f"--- {p.name}\n{tail(p.log, 5)}" for p in self._processes)


def fetch_status(url: str) -> int | None:
    """Return the HTTP status that a loopback `url` answers with; None when nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=5) as response:  # noqa: S310
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return None


def _a_worker_lives(valkey: redis.Redis) -> bool:
    workers = valkey.smembers(protocol.WORKERS_KEY)
    return any(valkey.exists(protocol.worker_key(str(worker))) for worker in workers)


def _static_is_stale(collected: Path) -> bool:
    """Tell whether a source of static files is newer than what was collected."""
    manifest = collected / "staticfiles.json"
    if not manifest.exists():
        return True
    sources = [REPOSITORY / "requirements.lock", *(REPOSITORY / "marketplace").glob("static/**/*")]
    newest = max(path.stat().st_mtime for path in sources if path.exists())
    return newest > manifest.stat().st_mtime
