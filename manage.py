#!/usr/bin/env python3
"""Run Django's management commands for this project."""

import os
import shlex
import sys


def main() -> None:
    """Hand the command line to Django."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "marketplace.settings")
    from django.core.exceptions import ImproperlyConfigured
    from django.core.management import execute_from_command_line
    from django.db import OperationalError

    given = shlex.join(sys.argv[1:])
    try:
        execute_from_command_line(sys.argv)
    except OperationalError as error:
        if "--traceback" in sys.argv:
            raise
        sys.exit(f"error: PostgreSQL (DATABASE_URL): {' '.join(str(error).split())}")
    except ImproperlyConfigured as error:
        if "--traceback" in sys.argv:
            raise
        sys.exit(
            f"error: {error}\nFor the market of `make run`: make manage DO={shlex.quote(given)}"
        )


if __name__ == "__main__":
    main()
