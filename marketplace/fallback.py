"""Answers to what no route or view could answer: JSON for programs, a page for people."""

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from marketplace.api.errors import json_error


def not_found(request: HttpRequest, exception: Any = None) -> HttpResponse:
    """Answer 404."""
    if request.path.startswith(("/v1/", "/replicate/")):
        return json_error(request, 404, "not_found", "There is no such route.")
    return render(request, "404.html", status=404)


def server_error(request: HttpRequest) -> HttpResponse:
    """Answer 500 without showing anything of the fault."""
    if request.path.startswith(("/v1/", "/replicate/")):
        return json_error(request, 500, "internal_error", "Something broke on our side.")
    return render(request, "500.html", status=500)
