"""The code samples of the pages, copied as they are shown, with nothing but a key."""

import os
import shutil
import subprocess
import sys
from html import unescape
from pathlib import Path

import pytest
from django.template.loader import render_to_string

from marketplace.catalog.models import Task
from marketplace.dashboard.snippets import snippets_of
from marketplace.jobs import services
from marketplace.jobs.models import Job
from tests.cast import PIXEL, SCHEMA, listed_version, report_finished, report_started
from tests.clients import nodes
from tests.clients.conftest import working

CLIENT = Path(__file__).parents[3] / "marketplace" / "client"
HOSTILE = 'it\'s "$(touch pwned)" `touch pwned` \\ </script> {{ x }} ${x} \n # ü 🎨 \u2028 !!'
GIVEN = {"prompt": HOSTILE, "num_images": 2, "num_inference_steps": 4, "seed": 11}
SHELL = ("curl", "shell")
PYTHON = ("python", "mercato", "replicate-python", "fal-python", "openai-python")
JAVASCRIPT = ("javascript", "replicate-javascript", "fal-javascript", "openai-javascript")


def sample(name, ref, given, task=Task.TEXT_TO_IMAGE):
    """Return a sample as a reader of the page sees it."""
    shown = {s["id"]: s for group in snippets_of(ref, given, task) for s in group["snippets"]}
    return unescape(render_to_string(shown[name]["template"], {"snippet": shown[name]}))


def command_of(name):
    if name in SHELL:
        return ["bash", "-eu", "-s"]
    if name in PYTHON:
        return [sys.executable, "-"]
    return ["node", "--input-type=module", "-"]


def run(name, code, market, folder):
    """Run a sample as a person does who has set MERCATO_KEY. Returns what it said."""
    env = {"PATH": os.environ["PATH"], "HOME": str(folder), "MERCATO_KEY": market.secret}
    place = folder
    if name in JAVASCRIPT:
        place = nodes._installed()
    if name == "shell":
        # Where pip puts the command when the client is installed.
        program = folder / "bin" / "mercato"
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -m mercato "$@"\n')
        program.chmod(0o755)
        env["PATH"] = f"{program.parent}:{env['PATH']}"
    if name in ("shell", "mercato"):
        env["PYTHONPATH"] = str(CLIENT)
    done = subprocess.run(
        command_of(name), input=code, env=env, cwd=place, capture_output=True, text=True, timeout=90
    )
    assert done.returncode == 0, f"{code}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def film(job):
    """Do what a worker does with a clip of two seconds."""
    services.job_started(report_started(job))
    services.job_finished(report_finished(job, seconds=2.125))


def test_every_sample_is_tried():
    made = snippets_of("atelier/sketch", GIVEN, Task.TEXT_TO_IMAGE)
    shown = {snippet["id"] for group in made for snippet in group["snippets"]}
    assert shown == {*SHELL, *PYTHON, *JAVASCRIPT}


@pytest.mark.parametrize("name", [*SHELL, *PYTHON, *JAVASCRIPT])
def test_a_sample_makes_pictures_of_exactly_that_input(market, tmp_path, name):
    if name == "curl" and not shutil.which("curl"):
        pytest.skip("curl is not installed")
    code = sample(name, market.ref, GIVEN)
    with working():
        said = run(name, code, market, tmp_path)
    job = Job.objects.get()
    assert job.status == "succeeded"
    assert {field: job.input[field] for field in GIVEN} == GIVEN
    assert not list(tmp_path.rglob("pwned"))
    if name == "shell":
        saved = [tmp_path / line for line in said.splitlines()]
        assert [path.read_bytes() for path in saved] == [PIXEL, PIXEL]
    else:
        assert said.count(f"{market.url}/files/") == 2, said


@pytest.mark.parametrize("name", ["openai-python", "openai-javascript"])
def test_a_sample_makes_a_clip(market, tmp_path, name):
    frames = {"type": "integer", "minimum": 9, "maximum": 121, "default": 17}
    rate = {"type": "integer", "minimum": 8, "maximum": 30, "default": 8}
    properties = {**SCHEMA["properties"], "num_frames": frames, "fps": rate}
    schema = {**SCHEMA, "properties": {n: v for n, v in properties.items() if n != "num_images"}}
    listed_version(
        market.vendor, market.licence, market.sam,
        name="motion", task=Task.TEXT_TO_VIDEO, family="wan", input_schema=schema,
    )  # fmt: skip
    given = {"prompt": "waves", "num_inference_steps": 4}
    code = sample(name, "atelier/motion", given, Task.TEXT_TO_VIDEO)
    with working(film):
        assert "completed" in run(name, code, market, tmp_path)
    assert Job.objects.get().input["num_inference_steps"] == 4
    place = nodes._installed() if name in JAVASCRIPT else tmp_path
    clip = place / "video.mp4"
    assert clip.read_bytes() == PIXEL
    clip.unlink()
