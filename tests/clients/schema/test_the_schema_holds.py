"""schemathesis tries what the committed OpenAPI document allows, and what it does not.

`slow` runs many more examples, with another seed each day.
"""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from billing import services as billing
from marketplace.accounts import services as accounts
from marketplace.core.money import to_nano
from tests.billing.conftest import _second_standin, own_standin, payments, shared_standin, standin
from tests.clients.belongings import belongings_of

__all__ = ["_second_standin", "own_standin", "payments", "shared_standin", "standin"]
ROOT = Path(__file__).parents[3]
DOCUMENT = ROOT / "marketplace" / "api" / "openapi.yaml"
CHECKS = (
    "not_a_server_error", "status_code_conformance", "content_type_conformance",
    "response_headers_conformance", "response_schema_conformance", "negative_data_rejection",
    "unsupported_method", "ignored_auth",
)  # fmt: skip


def schemathesis(market, secret, belongings, *options, seconds):
    """Run the tool against the live server; fail with what it says."""
    ids = {**belongings.ids, "model": [market.ref], "vendor": ["atelier"], "name": ["sketch"]}
    command = [
        str(Path(sys.executable).with_name("schemathesis")), "run", str(DOCUMENT),
        "--url", market.url, "-H", f"Authorization: Bearer {secret}",
        "--checks", ",".join(CHECKS), "--continue-on-failure", "--no-color",
        "--request-timeout", "20", "--warnings", "off", *options,
    ]  # fmt: skip
    done = subprocess.run(
        command,
        cwd=Path(__file__).parent,
        env={
            **os.environ,
            "BELONGINGS": json.dumps(ids),
            "SCHEMATHESIS_HOOKS": str(Path(__file__).with_name("hooks.py")),
        },
        capture_output=True,
        text=True,
        timeout=seconds,
    )
    if done.returncode:
        pytest.fail(done.stdout[-20_000:] + done.stderr[-4_000:], pytrace=False)
    return done.stdout


@pytest.fixture
def rich(market, settings, payments):
    """Bob with money for all that will be called, and something behind every route."""
    settings.HEAVY_PER_SECOND, settings.HEAVY_BURST = 1000.0, 100_000
    settings.READS_BURST = 1_000_000
    settings.UPLOADS_MAX_BYTES = 2**50  # as many announced files as are asked for
    billing.credit_top_up(
        org_id=market.developer.pk, amount_nano=to_nano("1000"), source="test:rich"
    )
    return belongings_of(market, keys=40)


def secret_of(org, scopes=("run", "read", "admin", "billing")):
    return accounts.api_key_create(org=org, name="all", scopes=list(scopes))[1]


@pytest.mark.timeout(400)
def test_as_a_developer(market, rich):
    told = schemathesis(
        market, secret_of(market.developer), rich,
        "--phases", "examples,coverage,fuzzing", "--max-examples", "4", "--seed", "7",
        seconds=390,
    )  # fmt: skip
    assert "No issues found" in told


@pytest.mark.timeout(120)
def test_as_a_vendor(market, rich):
    told = schemathesis(
        market, secret_of(market.vendor), rich,
        "--include-path-regex", "vendor/|earnings", "--phases", "examples,coverage,fuzzing",
        "--max-examples", "4", "--seed", "7", seconds=110,
    )  # fmt: skip
    assert "No issues found" in told


@pytest.mark.slow
@pytest.mark.timeout(2000)
def test_for_long(market, rich):
    seed = str(datetime.now(UTC).toordinal())
    told = schemathesis(
        market, secret_of(market.developer), rich,
        "--max-examples", "300", "--seed", seed, seconds=1900,
    )  # fmt: skip
    assert "No issues found" in told
