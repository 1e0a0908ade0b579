"""What every handler of the stand-in needs: the call itself, look-up, metadata, pages of lists."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from marketplace.local.stripe_standin.errors import ApiError, resource_missing
from marketplace.local.stripe_standin.store import INDEXED, Change, Store
from marketplace.local.stripe_standin.work import Work

Params = dict[str, Any]
Body = dict[str, Any]

_MAX_LIMIT = 100
_METADATA_KEYS = 50


@dataclass
class Call:
    """One validated request on its way to a handler."""

    store: Store
    params: Params
    path_params: dict[str, str]
    idempotency_key: str | None
    path: str
    work: Work
    account: str = ""

    @property
    def change(self) -> Change:
        """What the handler changes: committed when it returns."""
        return self.work.change


def refuse_unsupported(names: set[str]) -> None:
    """Say plainly that Stripe knows a parameter and this stand-in does not."""
    if names:
        name = sorted(names)[0]
        raise ApiError(f"The Stripe stand-in does not carry the parameter {name}.", param=name)


def merge_metadata(current: dict[str, str], params: Params) -> dict[str, str]:
    """Merge as Stripe does: an empty value removes a key, an empty `metadata` removes all."""
    given = params.get("metadata", {})
    if given == "":
        return {}
    merged = {**current, **given}
    for key, value in given.items():
        if len(key) > 40 or len(value) > 500:
            raise ApiError(
                "Metadata keys have at most 40 characters and values at most 500.",
                param=f"metadata[{key}]",
            )
    merged = {key: value for key, value in merged.items() if value != ""}
    if len(merged) > _METADATA_KEYS:
        raise ApiError("Metadata has at most 50 keys.", param="metadata")
    return merged


def get_object(call: Call, kind: str, path_param: str) -> Body:
    """Return the object named in the path. Raises ApiError 404."""
    id_ = call.path_params[path_param]
    found = call.store.kind(kind).get(id_)
    if found is None:
        raise resource_missing(kind.rpartition(".")[2], id_, param=path_param)
    return found


def list_objects(
    call: Call,
    kind: str,
    word: str,
    *,
    equal: tuple[str, ...],
    extra: Callable[[Body], bool] | None = None,
) -> Body:
    """Return one page of a kind, newest first, filtered by equality, `created` and `extra`."""
    wanted = {name: call.params[name] for name in equal if name in call.params}
    indexed = next((name for name in wanted if name in INDEXED), None)
    found = (
        reversed(call.store.kind(kind).values())
        if indexed is None
        else reversed(call.store.where(kind, indexed, wanted[indexed]))
    )
    rows = [
        row
        for row in found
        if all(row[name] == value for name, value in wanted.items())
        and _in_range(row["created"], call.params.get("created"))
        and (extra is None or extra(row))
    ]
    return paginate(rows, call.params, url=call.path, word=word)


def _in_range(created: int, wanted: int | dict[str, int] | None) -> bool:
    if wanted is None:
        return True
    if isinstance(wanted, int):
        return created == wanted
    return (
        created > wanted.get("gt", created - 1)
        and created >= wanted.get("gte", created)
        and created < wanted.get("lt", created + 1)
        and created <= wanted.get("lte", created)
    )


def paginate(rows: list[Body], params: Params, *, url: str, word: str) -> Body:
    """Return one page of `rows` (newest first) as Stripe's list object."""
    limit = params.get("limit", 10)
    if not 1 <= limit <= _MAX_LIMIT:
        raise ApiError("This value must be between 1 and 100 (inclusive).", param="limit")
    after, before = params.get("starting_after"), params.get("ending_before")
    if after is not None and before is not None:
        raise ApiError("You cannot use both `starting_after` and `ending_before`.")
    if after is None and before is None:
        return _page(rows[:limit], url, more=len(rows) > limit)
    cursor = "starting_after" if after is not None else "ending_before"
    at = next((i for i, row in enumerate(rows) if row["id"] == params[cursor]), None)
    if at is None:
        raise resource_missing(word, params[cursor], param=cursor, status=400)
    if after is not None:
        return _page(rows[at + 1 : at + 1 + limit], url, more=len(rows) > at + 1 + limit)
    start = max(0, at - limit)
    return _page(rows[start:at], url, more=start > 0)


def _page(rows: list[Body], url: str, *, more: bool) -> Body:
    return {"object": "list", "data": rows, "has_more": more, "url": url}
