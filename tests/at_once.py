"""Runs calls in many threads at once, each with its own connection to the database."""

import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

from django.db import connection


def at_once(calls: list[Callable[[], Any]]) -> list[Any]:
    """Run each call in a thread with its own connection; return results or expected refusals."""
    results: list[Any] = [None] * len(calls)
    ready = threading.Barrier(len(calls))

    def run(index: int) -> None:
        try:
            connection.ensure_connection()
            ready.wait(30)
            results[index] = calls[index]()
        except Exception as error:  # a deadlock must show in the result, not in a dead thread
            results[index] = error
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=[index]) for index in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    return results


def kinds(results: list[Any]) -> Counter[str]:
    return Counter(type(result).__name__ for result in results)
