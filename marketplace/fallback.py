"""Answers to what no route or view could answer: JSON for programs, a page for people."""

from typing import Any

from django.core.exceptions import BadRequest
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from marketplace.api.entrances import PREFIXES
from marketplace.api.errors import json_error


def bad_request(request: HttpRequest, exception: Any = None) -> HttpResponse:
    """Answer 400 to what is not even looked at, such as an address with a NUL."""
    why = str(exception) if isinstance(exception, BadRequest) else "This request is not valid."
    if request.path.startswith(PREFIXES):
        return json_error(request, 400, "bad_request", why)
    return HttpResponse(why + "\n", status=400, content_type="text/plain; charset=utf-8")


def not_found(request: HttpRequest, exception: Any = None) -> HttpResponse:
    """Answer 404."""
    if request.path.startswith(PREFIXES):
        return json_error(request, 404, "not_found", "There is no such route.")
    return render(request, "404.html", status=404)


def server_error(request: HttpRequest) -> HttpResponse:
    """Answer 500 without showing anything of the fault."""
    if request.path.startswith(PREFIXES):
        made = json_error(request, 500, "internal_error", "Something broke on our side.")
        if request.method == "POST":
            made["x-should-retry"] = "false"  # a call may have been taken before it broke
        return made
    return render(request, "500.html", status=500)
