"""`make demo`: the whole story over real HTTP, from signing in to the balanced ledger."""

from __future__ import annotations

import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from marketplace.local.client import Client
from marketplace.local.environment import REPOSITORY, port_given, var_dir
from marketplace.local.market import Market, Say
from marketplace.local.processes import LocalError, ignore_interrupts
from marketplace.local.valkey import free_port

PROMPT = "a red circle"
JOB_TIMEOUT_S = 120.0
METER_TIMEOUT_S = 30.0
SETTINGS = {
    "METER_SEAL_AFTER_S": "0",  # do not wait for the minute to end
    "SWEEP_EVERY_S": "1",
}
RESULT_KEYS = (
    *("job", "image", "quote_nano_usd", "charge_nano_usd", "vendor_nano_usd"),
    *("platform_nano_usd", "meter_events_accepted", "submit_to_done_ms", "engine_ms"),
)
PNG = b"\x89PNG\r\n\x1a\n"


def main(say: Say) -> int:
    """Start a fresh market, play the story, stop it, print the result. Raises LocalError."""
    var = var_dir() / "demo"
    port = port_given(os.environ) or free_port()
    wipe(var)
    market = Market(
        var=var, port=port, say=say, stripe_standin=True, extra_env=SETTINGS, embedded=True
    )
    try:
        market.start()
        result = play(market.url, market.seed, REPOSITORY / "out", say)
    except (KeyError, IndexError, TypeError) as error:
        raise LocalError(f"An answer lacks what the demo reads: {error!r}") from error
    finally:
        ignore_interrupts()
        market.stop()
        say("Everything is stopped")
    print(json.dumps(result, separators=(",", ":")), flush=True)
    return 0


def wipe(var: Path) -> None:
    """Empty the demo's directory; collected static files stay, since they hold no state."""
    for path in var.glob("*"):
        if path.is_dir() and path.name != "static":
            shutil.rmtree(path)
        elif path.is_file() and path.name != "run.lock":
            path.unlink()


def play(base: str, seed: Mapping[str, Any], out: Path, say: Say) -> dict[str, Any]:
    """Play developer, vendor and staff against the market at `base`."""
    result = play_developer(base, seed, out, say)
    result |= play_vendor(base, seed, say)
    result |= play_staff(base, seed, say)
    paid_out = result["vendor_nano_usd"] + result["platform_nano_usd"]
    if paid_out != result["charge_nano_usd"]:
        raise LocalError(f"vendor and platform got {paid_out}, not the charge: {result}")
    return {"ok": True} | {key: result[key] for key in RESULT_KEYS}


def play_developer(base: str, seed: Mapping[str, Any], out: Path, say: Say) -> dict[str, Any]:
    """Sign in, read the price, ask for a quote, run a job, fetch the picture."""
    _sign_in(base, seed, "developer", say).get("/dashboard/")
    api = Client(base, seed["api_key"])
    model = seed["model"]
    price = api.get(f"/v1/models/{model}").json()["version"]["price"]
    say(f"Price of {model}: {json.dumps(price)}")
    body = {"input": {"prompt": PROMPT}}
    quote = api.post_json(f"/v1/models/{model}/quote", body)["quote_nano_usd"]
    say(f"Quote: at most {_usd(quote)}")
    key = {"Idempotency-Key": str(uuid.uuid4())}
    begin = time.monotonic()
    job = api.post_json("/v1/jobs", {"model": model, **body}, key)
    say(f"Job {job['id']} is accepted: {PROMPT!r}")
    follow(api, job["id"], say)
    took_ms = round((time.monotonic() - begin) * 1000)
    job = api.get(f"/v1/jobs/{job['id']}").json()
    if job["status"] != "succeeded":
        raise LocalError(f"Job {job['id']} {job['status']}", json.dumps(job.get("error")))
    path = save(api, job, out)
    say(f"Charged {_usd(job['charge_nano_usd'])}; the picture is {path}")
    if job["charge_nano_usd"] > quote:
        raise LocalError(f"The charge is above the quote: {job['charge_nano_usd']} > {quote}")
    return {
        "job": job["id"],
        "image": str(path),
        "quote_nano_usd": quote,
        "charge_nano_usd": job["charge_nano_usd"],
        "submit_to_done_ms": took_ms,
        "engine_ms": job["usage"]["engine_ms"],
    }


def follow(api: Client, job_id: str, say: Say) -> None:
    """Print a job's progress from its event stream until it has ended."""
    for kind, data in api.events(f"/v1/jobs/{job_id}/events", JOB_TIMEOUT_S):
        if kind == "done":
            return
        say(f"  {describe(kind, data)}")
    raise LocalError(f"The event stream of job {job_id} ended before the job")


def describe(kind: str, data: Mapping[str, Any]) -> str:
    """Return one event of a job as a few words."""
    if kind == "progress":
        return f"step {data['step']} of {data['steps']}"
    if kind == "started":
        return f"worker {data['worker_id']} has it"
    return f"{kind}: {data.get('message') or data.get('status') or json.dumps(data)[:100]}"


def save(api: Client, job: Mapping[str, Any], out: Path) -> Path:
    """Download the first output into `out`; returns its path from the repository."""
    content = api.get(job["outputs"][0]["url"]).body
    if not content.startswith(PNG):
        raise LocalError(f"The output of job {job['id']} is not a PNG picture")
    out.mkdir(exist_ok=True)
    path = out / f"{job['id']}.png"
    path.write_bytes(content)
    return path.relative_to(out.parent)


def play_vendor(base: str, seed: Mapping[str, Any], say: Say) -> dict[str, Any]:
    """Sign in as the vendor; the earning in the API is also on the page."""
    vendor = _sign_in(base, seed, "vendor", say)
    earned = Client(base, seed["vendor_api_key"]).get("/v1/earnings").json()["total_nano_usd"]
    amount = f"{earned / 1e9:.9f}".rstrip("0")
    if amount not in vendor.get("/vendor/earnings/").text:
        raise LocalError(f"/vendor/earnings/ does not show the earned ${amount}")
    say(f"The vendor has earned {_usd(earned)}")
    return {"vendor_nano_usd": earned}


def play_staff(base: str, seed: Mapping[str, Any], say: Say) -> dict[str, Any]:
    """Sign in as staff, see the ledger balance, wait until Stripe was told."""
    staff = _sign_in(base, seed, "staff", say)
    staff.get("/console/")

    def balance() -> Any:
        return staff.get("/console/ledger/balance.json").json()

    ledger = _poll(balance, lambda found: found["meter_events_accepted"] > 0, METER_TIMEOUT_S)
    if not ledger["balanced"] or ledger["debits_nano_usd"] != ledger["credits_nano_usd"]:
        raise LocalError("The ledger does not balance", json.dumps(ledger))
    say(f"The ledger balances: {_usd(ledger['debits_nano_usd'])} on both sides")
    say(f"Meter events accepted: {ledger['meter_events_accepted']}")
    return {
        "platform_nano_usd": ledger["accounts_nano_usd"]["revenue"],
        "meter_events_accepted": ledger["meter_events_accepted"],
    }


def _sign_in(base: str, seed: Mapping[str, Any], role: str, say: Say) -> Client:
    login = next((login for login in seed["logins"] if login["role"] == role), None)
    if login is None:
        raise LocalError(f"The seed has no login with the role {role}")
    client = Client(base)
    client.sign_in(login["email"], login["password"])
    say(f"Signed in as {role}: {login['email']}")
    return client


def _poll(read: Callable[[], Any], good: Callable[[Any], bool], timeout_s: float) -> Any:
    """Return the first good reading, or the last one when `timeout_s` is over."""
    end = time.monotonic() + timeout_s
    while not good(found := read()):
        if time.monotonic() > end:
            raise LocalError(f"Waited {timeout_s:.0f} s in vain", json.dumps(found))
        time.sleep(0.3)
    return found


def _usd(nano: int) -> str:
    return f"${nano / 1e9:.6f}"
