#!/usr/bin/env python3
"""Run Django's management commands for this project."""

import os
import sys


def main() -> None:
    """Hand the command line to Django."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "marketplace.settings")
    from django.core.management import execute_from_command_line
    from django.db import OperationalError

    try:
        execute_from_command_line(sys.argv)
    except OperationalError as error:
        if "--traceback" in sys.argv:
            raise
        sys.exit(f"error: PostgreSQL (DATABASE_URL): {' '.join(str(error).split())}")


if __name__ == "__main__":
    main()
