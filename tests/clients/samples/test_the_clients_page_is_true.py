"""The examples of the page about clients do what they say, on the live server."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import mercato
from marketplace.jobs.models import Job
from tests.cast import PIXEL
from tests.clients.conftest import working

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "templates" / "docs" / "clients.md").read_text()
PYTHON = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
SHELL = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def carry_out(market, tmp_path):
    """Run an example in an empty folder, with a key, our client and this market's model."""
    program = tmp_path / "bin" / "mercato"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m mercato "$@"\n')
    program.chmod(0o755)
    env = {
        "PATH": f"{program.parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT / "marketplace" / "client"),
        "HOME": str(tmp_path),
        "MERCATO_KEY": market.secret,
    }

    def call(command, code):
        for name, value in (("{{ PUBLIC_URL }}", market.url), ("vendor/name", market.ref)):
            code = code.replace(name, value)
        with working():
            done = subprocess.run(
                command, input=code, env=env, cwd=tmp_path, capture_output=True, text=True
            )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return call


def test_python(carry_out, tmp_path):
    first, on_asyncio = PYTHON
    assert carry_out([sys.executable, "-"], first) == "0.004000000\n"
    assert (tmp_path / "circle.png").read_bytes() == PIXEL
    assert carry_out([sys.executable, "-"], on_asyncio).count("/files/") == 2
    assert {job.input["prompt"] for job in Job.objects.all()} == {"a red circle", "a blue square"}


def test_the_command_line(carry_out, tmp_path):
    install, example = SHELL
    assert install.startswith("pip install ./marketplace/client")
    assert (ROOT / "marketplace" / "client" / "pyproject.toml").exists()
    assert "circle.png" in carry_out(["bash", "-eu", "-s"], example)
    assert (tmp_path / "circle.png").read_bytes() == PIXEL


def test_every_exception_is_named_and_every_name_is_there():
    table = PAGE.partition("| exception |")[2].partition("`verify_webhook")[0]
    named = set(re.findall(r"`([A-Z]\w+)`", table))
    ours = {
        name for name in mercato.__all__
        if isinstance(getattr(mercato, name), type)
        and issubclass(getattr(mercato, name), mercato.MercatoError)
    }  # fmt: skip
    assert named == ours - {"MercatoError", "ApiError", "WebhookRefused"}


@pytest.mark.parametrize("kind", [mercato.Mercato, mercato.AsyncMercato])
def test_every_method_is_named_and_every_name_is_a_method(kind):
    methods = {name for name in vars(kind) if not name.startswith("_")}
    named = set(re.findall(r"`(\w+)", PAGE.partition("## The command line")[0]))
    assert methods - named <= {"close", "submit"}
    assert {"run", "submit", "upload", "quote", "balance", "iter_events"} <= methods
