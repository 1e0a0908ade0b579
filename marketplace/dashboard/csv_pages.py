"""CSV files that are sent while they are read: no list is ever held whole."""

import csv
import io
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from typing import Any

from asgiref.sync import sync_to_async
from django.http import StreamingHttpResponse

from marketplace.core.database import give_back

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def _cell(value: Any) -> Any:
    """Return a cell that no spreadsheet takes for a formula."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def _text(rows: Iterable[Sequence[Any]]) -> str:
    out = io.StringIO()
    csv.writer(out).writerows([_cell(value) for value in row] for row in rows)
    return out.getvalue()


def _next(pages: Iterator[Iterable[Sequence[Any]]]) -> str | None:
    try:
        page = next(pages, None)
        return None if page is None else _text(page)
    finally:
        give_back()


async def _pieces(
    header: Sequence[str], pages: Iterator[Iterable[Sequence[Any]]]
) -> AsyncIterator[str]:
    yield _text([header])
    while (piece := await sync_to_async(_next)(pages)) is not None:
        yield piece


def stream_csv(
    name: str, header: Sequence[str], pages: Iterator[Iterable[Sequence[Any]]]
) -> StreamingHttpResponse:
    """Return a download of `pages` of rows below `header`; each page is read when it is sent."""
    return StreamingHttpResponse(
        _pieces(header, pages),
        content_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )
