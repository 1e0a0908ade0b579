"""Code that makes a call, by each way to call: on a model's page, in its playground, of a job."""

import json
import re
import shlex
from collections.abc import Callable
from pprint import pformat
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings

from marketplace.catalog.models import Task

Group = dict[str, Any]

_OPENAI_TAKES_ELSEWHERE = frozenset(
    {"image", "mask_image", "model", "n", "partial_images", "response_format", "size", "stream"}
)
"""Inputs that its client sends in another way, or that are words of its own."""
_VIDEO = (Task.TEXT_TO_VIDEO, Task.IMAGE_TO_VIDEO)
_PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def snippets_of(ref: str, given: dict[str, Any], task: str) -> list[Group]:
    """Return code samples that work when a key is put in, in groups by client.

    A group has `id`, `title`, and `snippets`: of each an id, a title (the language), a template
    and what that is filled with. OpenAI's client is left out where it cannot send such an input.
    """
    ways: dict[str, tuple[str, dict[str, tuple[str, str, Callable[[dict[str, Any]], str]]]]] = {
        "http": (
            "No client",
            {
                "curl": ("cURL", "curl", lambda given: _shell_body(ref, given)),
                "python": ("Python", "python", _python),
                "javascript": ("JavaScript", "javascript", _javascript),
            },
        ),
        "mercato": (
            "Our client",
            {
                "mercato": ("Python", "mercato", _python),
                "shell": ("Command line", "shell", _shell_words),
            },
        ),
        "replicate": ("Replicate's client", _both("replicate")),
        "fal": ("fal's client", _both("fal")),
    }
    if isinstance(given.get("prompt"), str) and not _OPENAI_TAKES_ELSEWHERE & set(given):
        ways["openai"] = (
            "OpenAI's client",
            _both("openai", "openai_video" if task in _VIDEO else "openai"),
        )
    shared = _shared(ref, given)
    return [
        {
            "id": client,
            "title": title,
            "snippets": [
                shared
                | {
                    "id": name,
                    "title": language,
                    "template": f"components/code/{template}.txt",
                    "input": write(given),
                }
                for name, (language, template, write) in languages.items()
            ],
        }
        for client, (title, languages) in ways.items()
    ]


def _both(
    client: str, template: str = ""
) -> dict[str, tuple[str, str, Callable[[dict[str, Any]], str]]]:
    return {
        f"{client}-python": ("Python", f"{template or client}_python", _python),
        f"{client}-javascript": ("JavaScript", f"{template or client}_javascript", _javascript),
    }


def _shared(ref: str, given: dict[str, Any]) -> dict[str, Any]:
    """Return what every template may name."""
    where = urlsplit(settings.PUBLIC_URL)
    rest = {name: value for name, value in given.items() if name != "prompt"}
    return {
        "market": settings.PUBLIC_URL,
        "is_https": where.scheme == "https",
        "host": f"{where.netloc}{where.path}",
        "url": f"{settings.PUBLIC_URL}/v1/jobs",
        "model": ref,
        "prompt": repr(given.get("prompt", "")),
        "rest": _python(rest) if rest else "",
    }


def _python(given: dict[str, Any]) -> str:
    return pformat(given, sort_dicts=False, width=76)


def _javascript(given: dict[str, Any]) -> str:
    # A script in a page would end at </script>, which the template escapes; U+2028 is a line end
    # to old engines.
    return json.dumps(given, indent=2)


def _shell_body(ref: str, given: dict[str, Any]) -> str:
    return shlex.quote(json.dumps({"model": ref, "input": given}, ensure_ascii=False))


def _shell_words(given: dict[str, Any]) -> str:
    """Return the input as words of the shell: name=value, or JSON where that could be misread."""
    if not all(_is_plain(name, value) for name, value in given.items()):
        return f"--input {shlex.quote(json.dumps(given, ensure_ascii=False))}"
    words = (
        f"{name}={value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"
        for name, value in given.items()
    )
    return " ".join(shlex.quote(word) for word in words)


def _is_plain(name: str, value: Any) -> bool:
    """Tell whether the command line takes `name=value` for nothing but that."""
    if not _PLAIN_NAME.fullmatch(name):
        return False
    if not isinstance(value, str):
        return True
    try:
        json.loads(value)
    except ValueError:
        return not value.startswith(("@", "["))
    return False
