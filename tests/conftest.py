"""Fixtures that every part of the suite may use."""

import signal
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings

# How long a draw takes is the machine's affair: a test must not fail because it is busy.
settings.register_profile("any", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any")
settings.register_profile(
    "unshrunk", settings.get_profile("any"), phases=[Phase.explicit, Phase.generate]
)
"""For the mutation tests: that a bug is found counts there, not how small an example shows it."""


def pytest_configure() -> None:
    """Hash passwords fast: their strength is not what the tests are about."""
    # Begun in the background of a script, a suite and all that it starts would ignore Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    from django.conf import settings as own
    from django.test import TransactionTestCase

    from tests.emptying import empty

    TransactionTestCase._fixture_teardown = empty  # type: ignore[attr-defined,method-assign]
    own.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    own.PAYOUT_FIRST_REVIEW = False  # a test of its own has it on
    own.ORGANISATIONS_PER_USER = 1000  # a test of its own has fewer
    own.OFFER_TTL_S = 0  # what a test changes, the next line must see


# Files of a few tests that take minutes: they begin, or a worker would do them alone at the end.
LONG = (
    "tests/browser/test_every_page_in_a_browser.py",
    "tests/e2e/",
    "tests/browser/",
    "tests/pages/",
)


def _rank(item: pytest.Item) -> int:
    """Return where an item's file comes in a run: the long ones first, in the order of LONG."""
    return next((n for n, place in enumerate(LONG) if item.nodeid.startswith(place)), len(LONG))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put long files first."""
    items.sort(key=_rank)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give each xdist worker whole files, for their fixtures; one gets all of tests/e2e.

    Those share a market that takes long to start. (xdist 3.8's own `loadgroup` does nothing
    with pytest 9.2.)
    """
    from xdist.scheduler.loadscope import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "e2e" if nodeid.startswith("tests/e2e/") else nodeid.partition("::")[0]

    config.option.loadscopereorder = False  # it would put files of many tests first
    return ByFile(config, log)


@pytest.fixture(autouse=True)
def ledger_is_sound(request: pytest.FixtureRequest) -> Iterator[None]:
    """After every test with a database, no rule of the ledger may be broken."""
    uses = {"db", "transactional_db"} & set(request.fixturenames)
    if not uses:
        yield
        return
    request.getfixturevalue(uses.pop())
    yield
    from billing.invariants import audit, totals

    broken: list[Any] = [finding for finding in audit() if finding.rows]
    assert not broken, broken
    sums = totals()
    assert sums["debits"] == sums["credits"]


@pytest.fixture
def cast(db: None) -> Any:
    """Alice's listed model, Bob's money and key, Charlie the stranger, Sam of staff."""
    from tests.cast import make_cast

    return make_cast()


@pytest.fixture
def api(cast: Any) -> Any:
    """Bob's HTTP client of API v1."""
    from rest_framework.test import APIClient

    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {cast.secret}")
    return client


@pytest.fixture
def stranger_api(cast: Any) -> Any:
    """Charlie's HTTP client of API v1."""
    from rest_framework.test import APIClient

    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {cast.stranger_secret}")
    return client


@pytest.fixture
def invoice(cast: Any) -> Any:
    """Bob's invoice of October: $2 are due of $3.005, for he had paid $1 before."""
    from billing.invoicing.close import close
    from billing.models import Invoice
    from billing.wallets import credit_limit_set
    from marketplace.core.money import to_nano
    from tests.invoicing import OCTOBER, charge

    credit_limit_set(org_id=cast.developer.pk, limit_nano=to_nano("10"))
    charge(cast.developer, cast.vendor, to_nano("3.005"))
    close(OCTOBER)
    return Invoice.objects.get()
