"""Death at a chosen query, for tests that begin again."""

from contextlib import contextmanager

from django.db import connection


class Killed(BaseException):
    """The process is gone: no handler of ours runs."""


@contextmanager
def killed_at(step):
    """Die before the query number `step`; tells in the yielded list how many there were."""
    seen = []

    def run(execute, sql, params, many, context):
        seen.append(sql)
        if len(seen) == step:
            raise Killed
        return execute(sql, params, many, context)

    with connection.execute_wrapper(run):
        yield seen
