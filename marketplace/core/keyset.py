"""Pages of long lists: each goes on from the last row of the one before, so none is skipped."""

from typing import Any, TypeVar

from django.core.exceptions import ValidationError
from django.db.models import Model, Q, QuerySet
from django.http import HttpRequest

Row = TypeVar("Row", bound=Model)


def page_of(
    rows: "QuerySet[Row]", cursor: str, *, by: str, size: int, newest: bool = True
) -> tuple[list[Row], str]:
    """Return the `size` rows after the one that `cursor` names, and the cursor of what follows.

    Rows come in the order of `by`, then of their ids, the newest first or the oldest. A cursor
    that names none of them is the first page's; no further page is "".
    """
    sign, beyond = ("-", "lt") if newest else ("", "gt")
    rows = rows.order_by(f"{sign}{by}", f"{sign}pk")
    mark: tuple[Any, Any] | None = None
    if cursor:
        try:
            mark = rows.filter(pk=cursor).values_list(by, "pk").first()
        except (ValueError, ValidationError):
            mark = None
    if mark is not None:
        equal = Q(**{by: mark[0], f"pk__{beyond}": mark[1]})
        rows = rows.filter(Q(**{f"{by}__{beyond}": mark[0]}) | equal)
    found = list(rows[: size + 1])
    return found[:size], str(found[size - 1].pk) if len(found) > size else ""


def links(
    request: HttpRequest, following: object, name: str = "before", path: str = ""
) -> dict[str, str]:
    """Return what components/pagination.html shows: the addresses of the first and next page.

    `name` is the parameter of the cursor, `following` the cursor of the next page or nothing;
    the other parameters stay. `path` is the list's own where a form of the page was sent.
    """
    kept = request.GET.copy()
    here = kept.pop(name, None)
    first = f"{path or request.path}?{kept.urlencode()}"
    kept[name] = str(following)
    return {
        "newer": first if here and here[0] else "",
        "older": f"{path or request.path}?{kept.urlencode()}" if following else "",
    }
