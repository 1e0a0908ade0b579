"""The GPU worker of a running market was given no secret, and has loaded no Django."""

from pathlib import Path

import psutil

from tests.e2e.world import World

SECRETS = ("DATABASE_URL", "SECRET_KEY", "STRIPE_", "S3_", "EMAIL_", "AWS_", "DJANGO_")


def environment(pid: int) -> dict[str, str]:
    pairs = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    return dict(pair.split("=", 1) for pair in pairs if "=" in pair)


def test_its_environment_opens_no_database(market: World):
    gpu, web = (environment(market.child(name).pid) for name in ("worker-gpu", "web"))
    assert gpu["BROKER_URL"] == web["BROKER_URL"], "that is the market we mean"
    assert {"DATABASE_URL", "SECRET_KEY", "STRIPE_API_KEY"} <= web.keys()
    assert [name for name in gpu if name.startswith(SECRETS)] == []
    secrets = {web["SECRET_KEY"], web["DATABASE_URL"], web["STRIPE_API_KEY"]}
    assert secrets.isdisjoint(gpu.values())


def test_it_works_without_a_line_to_the_database(market: World):
    job = market.submit()
    assert market.until_ended(job)["status"] == "succeeded"
    process = psutil.Process(market.child("worker-gpu").pid)
    libraries = {Path(region.path).name for region in process.memory_maps()}
    assert any("torch" in name for name in libraries), "it has an engine"
    assert not any("libpq" in name or "_psycopg" in name for name in libraries)
