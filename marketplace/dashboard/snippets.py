"""Code that makes a call, in three languages: on a model's page, in its playground, of a job."""

import json
import shlex
from pprint import pformat
from typing import Any

from django.conf import settings


def snippets_of(ref: str, given: dict[str, Any]) -> list[dict[str, str]]:
    """Return code samples that work when a key is put in: template and what it is filled with."""
    body = json.dumps({"model": ref, "input": given}, ensure_ascii=False)
    shared = {"url": f"{settings.PUBLIC_URL}/v1/jobs", "model": ref}
    written = {
        "curl": ("cURL", shlex.quote(body)),
        "python": ("Python", pformat(given, sort_dicts=False, width=76)),
        # A script in a page would end at </script>, which the template escapes; U+2028 is a
        # line end to old engines.
        "javascript": ("JavaScript", json.dumps(given, indent=2)),
    }
    return [
        {"id": name, "title": title, "template": f"components/code/{name}.txt", "input": text}
        | shared
        for name, (title, text) in written.items()
    ]
