"""The stand-in's own pages: a plain HTML page that says what it is, and its state as JSON."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from html import escape
from typing import Any

from marketplace.local.stripe_standin.faults import Faults
from marketplace.local.stripe_standin.metering import error_reports
from marketplace.local.stripe_standin.store import Store

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Stripe stand-in</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 56rem; margin: 0 auto; padding: 1.5rem; }}
h1 {{ font-size: clamp(2rem, 8vw, 4.5rem); line-height: 1.05; margin: 1rem 0; }}
h1 span {{ background: #ffd43b; color: #111; padding: 0 .3em; }}
table {{ border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }}
th, td {{ text-align: left; padding: .35rem .5rem; border-bottom: 1px solid #8886; }}
td:last-child, th:last-child {{ text-align: right; }}
</style></head><body>
<h1><span>STAND-IN</span><br>This is not Stripe.<br>No money moves.</h1>
<p>A process on this machine that answers like Stripe, so that billing can be run and
tested without an account. Each request is checked against Stripe's published description,
{version}. Set <code>STRIPE_API_KEY</code> and leave <code>STRIPE_API_BASE</code> empty to talk to
Stripe itself.</p>
<table><tr><th>Meter events accepted</th><td>{accepted}</td></tr>
<tr><th>… of these counted</th><td>{counted}</td></tr>
<tr><th>… accepted but reported as faulty</th><td>{faulty}</td></tr>
<tr><th>Duplicates refused</th><td>{duplicates}</td></tr>
<tr><th>Invoices</th><td>{invoices}</td></tr>
<tr><th>Platform's balance, US cents</th><td>{balance}</td></tr>
<tr><th>Webhooks waiting</th><td>{waiting}</td></tr></table>
<h2>Usage per customer</h2>
<table><tr><th>Customer</th><th>Name</th><th>Events</th><th>Total</th></tr>{rows}</table>
<p>As JSON: <a href="/_standin/state">/_standin/state</a></p>
</body></html>
"""


def state(
    store: Store, faults: Faults, requests: Counter[str], versions: dict[str, str], *, events: bool
) -> dict[str, Any]:
    """Return all there is to know, as JSON. `requests` counts since the process started."""
    customers: dict[str, dict[str, Any]] = {}
    meters: dict[str, dict[str, Any]] = {}
    for (meter, customer), usage in store.by_usage.items():
        counted = [event for event in usage if event.counts]
        total = sum(event.value for event in counted)
        mine = customers.setdefault(customer, {"events": 0, "total": 0})
        mine["events"] += len(counted)
        mine["total"] += total
        whole = meters.setdefault(meter, {"events": 0, "total": 0})
        whole["events"] += len(counted)
        whole["total"] += total
    body: dict[str, Any] = {
        "stand_in": True,
        "note": "This is a Stripe stand-in. No money moves.",
        "description": versions,
        "events_accepted": len(store.events),
        "events_counted": sum(event.counts for event in store.events),
        "events_cancelled": sum(event.cancelled for event in store.events),
        "duplicates_rejected": store.duplicates.total(),
        "customers": customers,
        "meters": meters,
        "error_reports": error_reports(store),
        "invoices": dict(Counter(row["status"] for row in store.kind("invoice").values())),
        "balance_cents": {"available": store.available(), "pending": store.pending()},
        "webhooks_waiting": sum(
            row["state"] == "pending" for row in store.kind("_delivery").values()
        ),
        "requests": dict(requests),
        "faults": [rule.describe() for rule in faults.rules],
        "clock_offset_s": store.clock_offset_s,
        "now": store.now(),
    }
    if events:
        body["events"] = [asdict(event) for event in store.events]
    return body


def html(store: Store, current: dict[str, Any]) -> str:
    """Return the page at `/`, from the result of `state`."""
    names = store.kind("customer")
    rows = "".join(
        f"<tr><td>{escape(id_)}</td><td>{escape(names.get(id_, {}).get('name') or '')}</td>"
        f"<td>{entry['events']}</td><td>{entry['total']}</td></tr>"
        for id_, entry in sorted(current["customers"].items())
    )
    return _PAGE.format(
        version=escape(current["description"]["api_version"]),
        accepted=current["events_accepted"],
        counted=current["events_counted"],
        faulty=len(current["error_reports"]),
        duplicates=current["duplicates_rejected"],
        invoices=escape(
            ", ".join(f"{count} {status}" for status, count in current["invoices"].items()) or "0"
        ),
        balance=current["balance_cents"]["available"],
        waiting=current["webhooks_waiting"],
        rows=rows or "<tr><td colspan=4>None yet.</td></tr>",
    )
