"""The queue: submit, status, result, cancel."""

from typing import ClassVar

from rest_framework.request import Request
from rest_framework.response import Response

from marketplace.accounts.models import Scope
from marketplace.api.auth import Scopes, caller_of
from marketplace.api.fal import calls, present
from marketplace.api.fal.door import FalView, answered, job_of, ref_of
from marketplace.api.fal.tokens import OwnAuthentication
from marketplace.core.errors import MarketError, WrongState
from marketplace.jobs import services

_READ: Scopes = {"GET": (Scope.READ, Scope.RUN)}


class Submit(FalView):
    """Call a model, and ask later."""

    scopes: ClassVar[Scopes] = {"POST": (Scope.RUN,)}
    throttle_post = False
    is_call = True

    def post(self, request: Request, owner: str, alias: str, sub: str = "") -> Response:
        """Queue a call; the body is its input."""
        job = calls.submit(self, request, ref_of(owner, alias, sub), request.data)
        # Counting the queue would cost every submission a query: the status tells the position.
        shown = {"status": present.IN_QUEUE, **present.addresses(job), "queue_position": 0}
        return answered(Response(shown), job)


class Status(FalView):
    """How a request stands."""

    scopes: ClassVar[Scopes] = _READ

    def get(self, request: Request, owner: str, alias: str, request_id: str) -> Response:
        """Return the status, and the log if it is asked for."""
        job = job_of(self, request, owner, alias, request_id)
        lines = present.logs(job) if calls.with_logs(request) else None
        shown = present.status(job, lines=lines)
        return answered(Response(shown, status=200 if job.is_ended else 202), job)


class Result(FalView):
    """What a request made."""

    authentication_classes = (OwnAuthentication,)
    scopes: ClassVar[Scopes] = _READ

    def get(self, request: Request, owner: str, alias: str, request_id: str) -> Response:
        """Return the result with fresh addresses, or what went wrong as an error."""
        job = job_of(self, request, owner, alias, request_id)
        if not job.is_ended:
            raise MarketError("The request is still in progress.", code="request_in_progress")
        if error := present.failure(job):
            raise error
        return answered(Response(present.result(job)), job)


class Cancel(FalView):
    """Stop a request."""

    scopes: ClassVar[Scopes] = {"PUT": (Scope.RUN,)}

    def put(self, request: Request, owner: str, alias: str, request_id: str) -> Response:
        """Cancel a request; one that has ended stays as it is, and that is no error."""
        job = job_of(self, request, owner, alias, request_id)
        try:
            services.job_cancel(org=caller_of(request).org, job=job)
        except WrongState:  # clients take a 409 for a reason to try again
            return answered(Response({"status": "ALREADY_COMPLETED"}), job)
        job = job_of(self, request, owner, alias, request_id)
        return answered(Response({"status": "CANCELLATION_REQUESTED"}, status=202), job)
