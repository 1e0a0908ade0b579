"""Asks the GPU plane which models ship with Mercato: it alone reads weights."""

import json
import subprocess
import sys
from functools import cache
from typing import Any

from django.conf import settings

_TIMEOUT_S = 60


@cache
def shipped() -> dict[str, dict[str, Any]]:
    """Return what ships, by address: `name`, `family`, `digest`, `bytes`.

    Empty where the GPU plane is not installed beside this process.
    """
    try:
        answer = subprocess.run(
            [sys.executable, "-m", "inference", "models", "--json"],
            capture_output=True,
            text=True,
            check=True,
            timeout=_TIMEOUT_S,
            cwd=settings.BASE_DIR,
        )
        return {model["uri"]: model for model in json.loads(answer.stdout)}
    except (OSError, subprocess.SubprocessError, ValueError):
        return {}
