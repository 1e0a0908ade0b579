"""The GPU plane holds no secret of the control plane and none of its code."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.inference.process import ROOT, bare_environment


def _python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.mark.parametrize("name", ["DATABASE_URL", "STRIPE_API_KEY", "SECRET_KEY"])
@pytest.mark.parametrize(
    "command",
    [
        ["-m", "inference", "worker"],
        ["-m", "celery", "-A", "inference.worker", "worker", "--pool=threads"],
    ],
    ids=["inference", "celery"],
)
def test_a_worker_given_a_secret_refuses_to_start(name: str, command: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env={**bare_environment(), name: "postgresql://secret"},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 1
    assert f"a GPU worker must not be given {name}" in done.stderr
    assert "Traceback" not in done.stderr
    assert "secret" not in done.stderr


def test_the_gpu_plane_runs_where_django_and_the_market_are_not_installed() -> None:
    drawn = _python(
        "import sys\n"
        "for name in ('django', 'marketplace', 'billing', 'stripe', 'psycopg'):\n"
        "    sys.modules[name] = None\n"
        "import inference.__main__, inference.worker.celery, inference.worker.jobs\n"
        "import inference.worker.heartbeat\n"
        "from inference.engine.families import flux, model_at, sd\n"
        "from inference.engine.request import GenerationRequest\n"
        "from inference.engine.runner import Engine\n"
        "result = Engine().submit(model_at('noop:'), GenerationRequest(prompt='a')).result()\n"
        "print(len(result.images))"
    )
    assert drawn == "1"


def test_the_engine_never_imports_django() -> None:
    found = _python(
        "import sys, inference.engine.runner, inference.engine.families.flux\n"
        "from inference.engine.device import pick_device; pick_device()\n"
        "print([m for m in sys.modules if m.split('.')[0] in ('django', 'marketplace', 'billing')])"
    )
    assert found == "[]"


def test_the_protocol_and_the_weights_import_neither_torch_nor_django() -> None:
    found = _python(
        "import sys, inference.protocol, inference.engine.weights, inference.engine.families\n"
        "print([m for m in ('torch', 'diffusers', 'django') if m in sys.modules])"
    )
    assert found == "[]"
