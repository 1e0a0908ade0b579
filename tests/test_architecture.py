"""The rules of the house that no type checker sees: who loads what, and how large a file grows."""

import ast
import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("marketplace", "billing", "inference", "kernels")
MAX_LINES = 400
HEAVY = ("torch", "diffusers", "transformers", "inference.engine", "inference.worker", "kernels")
CONTROL_PLANE = """
import importlib, json, sys
import django
django.setup()
from django.contrib import admin
from django.urls import get_resolver
import marketplace.asgi, marketplace.celery
get_resolver().url_patterns
admin.autodiscover()
marketplace.celery.app.loader.import_default_modules()
print(json.dumps([sorted(sys.modules), sorted(marketplace.celery.app.tasks)]))
"""


def _loaded(program: str) -> list[list[str]]:
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"DJANGO_SETTINGS_MODULE": "marketplace.settings", "DEBUG": "1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: list[list[str]] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_the_control_plane_never_loads_torch():
    modules, tasks = _loaded(CONTROL_PLANE)
    assert {"marketplace.api.v1.jobs_views", "marketplace.console.admin"} <= set(modules)
    assert {"jobs.finished", "billing.relay_batches"} <= set(tasks)
    assert [name for name in HEAVY if name in modules] == []


def test_the_gpu_plane_never_loads_django():
    program = (
        "import inference.worker.celery, inference.worker.jobs, inference.worker.heartbeat\n"
        "import inference.engine.runner, inference.engine.families.flux\n"
        "import json, sys; print(json.dumps([sorted(sys.modules)]))"
    )
    environment = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "BROKER_URL")}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment, cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (modules,) = json.loads(done.stdout.splitlines()[-1])
    assert "celery" in modules
    # Where Django is installed, kombu looks at its lazy strings; it needs no more of it.
    ours = ("django.conf", "django.db", "psycopg", "stripe", "marketplace", "billing")
    assert [name for name in ours if name in modules] == []


def test_no_distribution_shadows_our_kernels():
    with pytest.raises(importlib.metadata.PackageNotFoundError):
        importlib.metadata.distribution("kernels")


def _sources() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.py"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if listed.returncode == 0:
        paths = [ROOT / line for line in listed.stdout.splitlines()]
    else:  # an unpacked archive
        paths = [p for name in (*PACKAGES, "tests") for p in (ROOT / name).rglob("*.py")]
    return [path for path in paths if path.exists()]


def test_every_module_is_short():
    long = {
        str(path.relative_to(ROOT)): lines
        for path in _sources()
        if "migrations" not in path.parts
        and (lines := len(path.read_text().splitlines())) >= MAX_LINES
    }
    assert long == {}, f"split these, so that one reads them in a sitting (< {MAX_LINES} lines)"


def test_every_module_says_why_it_exists():
    silent = [
        str(path.relative_to(ROOT))
        for path in _sources()
        if path.relative_to(ROOT).parts[0] in PACKAGES
        and "migrations" not in path.parts
        and (text := path.read_text()).strip()
        and not ast.get_docstring(ast.parse(text))
    ]
    assert silent == [], "begin each with one line that says what it is for"
