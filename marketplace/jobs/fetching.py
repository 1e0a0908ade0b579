"""Bounds on what is fetched for calls: pictures at addresses that callers name.

A fetch holds a thread for seconds and a picture in memory. So what a call would cost is asked
for first, as nothing is fetched for who cannot pay, and only so many go at once.
"""

import re
import threading
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.conf import settings
from django.db import transaction

from billing import services as billing
from marketplace.accounts.models import ApiKey, Organisation
from marketplace.catalog import selectors as catalog
from marketplace.core import limits
from marketplace.core.database import give_back
from marketplace.core.errors import InsufficientFunds, TooManyRequests
from marketplace.core.ids import new_id
from marketplace.jobs import files, requests
from marketplace.jobs.models import Job

ADDRESS = re.compile(r"(?i)(https?|data):")
_STAND_IN = str(uuid.UUID(int=0))
_WAIT_S = 15.0
"""For how long a call waits for its turn: as long as one fetch may take."""


class _Turns:
    """Fetches of this process, by organisation: one has half of all at most."""

    def __init__(self) -> None:
        self._held: Counter[uuid.UUID] = Counter()
        self._changed = threading.Condition()

    def _free(self, org_id: uuid.UUID) -> bool:
        most: int = settings.INPUT_FETCHES_AT_ONCE
        return self._held.total() < most and self._held[org_id] < max(1, most // 2)

    @contextmanager
    def one(self, org_id: uuid.UUID) -> Iterator[None]:
        with self._changed:
            if not self._changed.wait_for(lambda: self._free(org_id), _WAIT_S):
                raise TooManyRequests(
                    "Too many pictures are being fetched just now; try again in 5 s.",
                    extra={"retry_after": 5},
                )
            self._held[org_id] += 1
        try:
            yield
        finally:
            with self._changed:
                self._held[org_id] -= 1
                if not self._held[org_id]:
                    del self._held[org_id]
                self._changed.notify_all()


_turns = _Turns()


@contextmanager
def turn(org: Organisation) -> Iterator[None]:
    """Fetch inside this, and let go of what came. Raises TooManyRequests."""
    rate, burst = settings.INPUT_FETCHES_PER_SECOND, settings.INPUT_FETCHES_BURST
    limits.require("pictures by address", f"fetches:{org.pk}", rate, burst)
    # It may take seconds, in which another request can use the connection.
    give_back()
    with _turns.one(org.pk):
        yield


def is_foreign(address: str) -> bool:
    """Tell whether an ADDRESS leads to somebody else's server."""
    return address[:5].lower() != "data:" and not address.startswith(settings.PUBLIC_URL + "/")


def check(offer: catalog.Offer, org: Organisation, api_key: ApiKey | None, given: Any) -> None:
    """Check a call for which something would be fetched: the rest of its input, and its funds.

    Nothing stays held: the hold is made with the job. Raises InvalidInput or InsufficientFunds.
    """
    if not isinstance(given, dict):
        return
    named = {
        name: value
        for name in files.file_fields(offer.version.input_schema)
        if isinstance(value := given.get(name), str) and ADDRESS.match(value)
    }
    if not any(map(is_foreign, named.values())):
        return
    _, bound = requests.bound_of(offer.version, {**given, **dict.fromkeys(named, _STAND_IN)})
    _funds_check(offer, org, api_key, bound)


def _funds_check(
    offer: catalog.Offer, org: Organisation, api_key: ApiKey | None, bound: dict[str, Any]
) -> None:
    model, quote = offer.version.model, requests.quote_now(org, offer.price, bound)
    try:
        with transaction.atomic():
            billing.hold_reserve(
                source_id=new_id(),
                org_id=org.pk,
                amount_nano=quote.amount_nano,
                caps=requests.caps_of(org, api_key),
                model_id=model.pk,
                vendor_id=model.org_id,
            )
            transaction.set_rollback(True)
    except InsufficientFunds as error:
        call = Job(org=org, api_key=api_key, quote_nano=quote.amount_nano)
        requests.refusal_note(call, error)
        raise
