"""Code that repeats a call, in three languages."""

import json
import shlex
from typing import Any

from django.conf import settings


def snippets_of(ref: str, given: dict[str, Any]) -> list[dict[str, str]]:
    """Return code samples that work when a key is put in: template and what it is filled with."""
    shared = {"url": f"{settings.PUBLIC_URL}/v1/jobs", "model": ref}
    body = shlex.quote(json.dumps({"model": ref, "input": given}))
    return [
        {"id": "curl", "title": "cURL", "template": "public/code/curl.txt", "body": body} | shared,
        {
            "id": "python",
            "title": "Python",
            "template": "public/code/python.txt",
            "input": repr(given),
        }
        | shared,
        {
            "id": "javascript",
            "title": "JavaScript",
            "template": "public/code/js.txt",
            "input": json.dumps(given),
        }
        | shared,
    ]
