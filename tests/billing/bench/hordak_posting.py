"""Posts transfers with django-hordak on the server that it is given; run in a process of its own.

It prints how many transfers (one debit and one credit leg, one commit) it posted per second.
"""

from __future__ import annotations

import os
import sys
import time

import django
from django.conf import settings


def main() -> None:
    """Create hordak's tables in their own database and post for some seconds."""
    database, host, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
    settings.configure(
        SECRET_KEY=os.urandom(16).hex(),
        USE_TZ=True,
        DEFAULT_CURRENCY="USD",
        CURRENCIES=["USD"],
        INSTALLED_APPS=[
            "django.contrib.auth", "django.contrib.contenttypes", "mptt", "djmoney", "hordak",
        ],
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.postgresql",
                "NAME": database, "HOST": host, "USER": "postgres",
            }
        },
    )  # fmt: skip
    django.setup()
    from django.core.management import call_command
    from django.db import transaction
    from hordak.models import Account
    from moneyed import Money

    call_command("migrate", verbosity=0)
    accounts = [
        Account.objects.create(name=f"a{n}", code=f"{n:03}", type="LI", currencies=["USD"])
        for n in range(40)
    ]
    count, began = 0, time.perf_counter()
    while (took := time.perf_counter() - began) < seconds:
        with transaction.atomic():
            accounts[count % 40].transfer_to(accounts[(count + 7) % 40], Money("0.04", "USD"))
        count += 1
    print(count / took)


if __name__ == "__main__":
    main()
