"""What time alone does: periods end, drafts become final, sessions expire, reports go out."""

from __future__ import annotations

import heapq

from marketplace.local.stripe_standin import checkout, invoicing, stream, subscriptions
from marketplace.local.stripe_standin.store import Change, Store, due_at
from marketplace.local.stripe_standin.work import Work


def tick(store: Store, base: str, *, report_now: bool = False) -> int:
    """Do all that is due by now, in the order of its times. Returns how much was done."""
    done = 0
    while store.due and store.due[0][0] <= store.now():
        due, kind, id_ = heapq.heappop(store.due)
        obj = store.kind(kind).get(id_)
        if obj is None or due_at(obj) != due:
            continue  # it changed since: its present time is in the heap by itself
        change = Change()
        work = Work(store, change, at=due, base=base)
        current = work.get(kind, id_)
        if kind == "subscription":
            subscriptions.roll(work, current)
        elif kind == "invoice":
            invoicing.finalize(work, current, collect=True)
        else:
            checkout.expire(work, current)
        store.commit(change)
        done += 1
    if store.unreported:
        change = Change()
        stream.report(Work(store, change, base=base), at_once=report_now)
        store.commit(change)
        done += bool(change.reported)
    return done
