"""Every variable that the GPU plane reads stands in one table, with the default that is true."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from inference.engine import runner
from inference.engine.batching import BATCH_TOKENS
from inference.engine.lora.store import DEFAULT_BYTES
from inference.engine.weights.settings import WeightsSettings
from inference.worker.settings import DEFAULT_BROKER, SLOTS, WorkerSettings

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "templates" / "docs" / "worker-settings.md"
NAME = re.compile(r"(?:ENGINE|WEIGHTS|WORKER|MERCATO|KERNELS|HF)_[A-Z0-9_]+|BROKER_URL|VALKEY_URL")
OURS_TO_SET = {"HF_HUB_OFFLINE"}
"""Variables that the engine sets for the libraries, and does not read."""


def _read_by_code() -> set[str]:
    """Names of variables anywhere in the code as whole strings; docstrings only mention them."""
    found = set()
    for folder in ("inference", "kernels"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                text = node.value if isinstance(node, ast.Constant) else None
                if isinstance(text, str) and NAME.fullmatch(text):
                    found.add(text)
    return found - OURS_TO_SET


def _table() -> dict[str, str]:
    """Variables of the page with their defaults."""
    rows = re.findall(r"^\| `([A-Z0-9_]+)` \| (.+?) \| .+ \|$", PAGE.read_text(), re.MULTILINE)
    assert len(rows) == len({name for name, _ in rows})
    return dict(rows)


def test_the_table_has_every_variable_and_no_other() -> None:
    assert set(_table()) == _read_by_code()


def test_a_variable_that_the_code_reads_is_found() -> None:
    assert {"ENGINE_DTYPE", "WEIGHTS_PEERS", "WORKER_DRAIN_S", "HF_TOKEN"} <= _read_by_code()


def test_the_defaults_are_the_codes_own() -> None:
    weights, worker, said = WeightsSettings.from_env({}), WorkerSettings.from_env({}), _table()
    slots, tokens = SLOTS, BATCH_TOKENS
    plain = {
        "BROKER_URL": f"`{DEFAULT_BROKER}`",
        "WORKER_CLASSES": f"`{','.join(worker.classes)}`",
        "WORKER_SLOTS": f"{slots['cpu']} on a CPU, {slots['cuda']} on CUDA",
        "WORKER_VISIBILITY_TIMEOUT_S": str(worker.visibility_timeout_s),
        "ENGINE_BATCH_TOKENS": f"{tokens['cpu']} on a CPU; on CUDA {tokens['cuda']}, "
        "or more where launches bind the model",
        "ENGINE_LORA_BYTES": str(DEFAULT_BYTES),
        "WEIGHTS_PARALLEL": str(weights.parallel),
        "WEIGHTS_SERVE_HOST": f"`{weights.serve_host}`",
        "WEIGHTS_SERVE_CONNECTIONS": str(weights.serve_connections),
        "HF_ENDPOINT": f"`{weights.hub_endpoint}`",
    }
    assert {name: said[name] for name in plain} == plain
    unset = {
        "WEIGHTS_PEERS": weights.peers or weights.discover_peers,
        "WEIGHTS_SERVE_PORT": weights.serve_port,
        "WEIGHTS_PEER_TOKEN": weights.peer_token,
        "WEIGHTS_S3_BUCKETS": weights.s3_buckets,
        "MERCATO_WEIGHTS_DIRS": weights.roots,
        "HF_TOKEN": weights.hub_token,
        "WORKER_METRICS_PORT": worker.metrics_port,
        "WORKER_PRELOAD": worker.preload,
    }
    assert not any(unset.values())
    assert {said[name] for name in unset} == {"none"}
    assert not weights.hub_owners
    assert said["WEIGHTS_HUB_OWNERS"] == "all"
    for name, text in (("ENGINE_MAX_LOADED", "2"), ("ENGINE_MAX_ACTIVE", "64")):
        assert said[name] == text
        assert f'_positive("{name}", {text})' in Path(runner.__file__).read_text()
