"""`python -m mercato`, as a process of its own against the live server."""

import json
import os
import pty
import re
import signal
import time

import pytest

from marketplace.accounts import services as accounts
from marketplace.jobs import events, services
from marketplace.jobs.models import File, Job
from tests.cast import PIXEL, SCHEMA, listed_version, report_finished, report_started
from tests.clients.conftest import failing, working
from tests.clients.mercato.network import Network

PROMPT = "prompt=a red circle"
MORE = {
    "image": {"type": "string", "format": "file-id"},
    "images": {"type": "array", "items": {"type": "string", "format": "file-id"}},
    "strength": {"type": "number", "minimum": 0, "maximum": 1},
    "tiled": {"type": "boolean"},
    "outpaint": {"type": "object"},
}


@pytest.fixture
def edit(market):
    schema = {**SCHEMA, "properties": {**SCHEMA["properties"], **MORE}}
    listed_version(market.vendor, market.licence, market.sam, name="edit", input_schema=schema)
    return "atelier/edit"


def test_a_run_saves_its_picture_and_says_what_it_cost(market, mercato, tmp_path):
    with working():
        out, said = mercato("run", market.ref, PROMPT, "num_inference_steps=4")
    (line,) = out.splitlines()
    job = Job.objects.get()
    assert line == f"sketch-{str(job.pk)[-8:]}.png"
    assert (tmp_path / "here" / line).read_bytes() == PIXEL
    assert said == "Cost: $0.004\n", "no progress where there is no terminal"
    assert job.input["num_inference_steps"] == 4


def test_outputs_go_where_they_are_told_and_over_nothing(market, mercato, tmp_path):
    with working():
        mercato("run", market.ref, PROMPT, "-o", "a.png")
        _, said = mercato("run", market.ref, PROMPT, "-o", "a.png", code=1)
        assert said == "mercato: a.png exists; --force writes over it.\n"
        assert Job.objects.count() == 1, "it is refused before it is paid"
        mercato("run", market.ref, PROMPT, "-o", "a.png", "--force")
        out, _ = mercato("run", market.ref, PROMPT, "-o", "new/", "num_images=2")
        two, _ = mercato("run", market.ref, PROMPT, "num_images=2", "-o", "b.png")
    assert re.fullmatch(r"new/sketch-\w{8}-1\.png\nnew/sketch-\w{8}-2\.png\n", out)
    assert two == "b-1.png\nb-2.png\n"
    names = {str(p.relative_to(tmp_path / "here")) for p in tmp_path.glob("here/**/*.png")}
    assert names == {"a.png", "b-1.png", "b-2.png", *out.split()}


def test_values_have_the_types_of_the_schema(market, mercato, edit, tmp_path):
    picture = tmp_path / "here" / "cat.png"
    picture.write_bytes(PIXEL)
    mercato(
        "submit", edit, "prompt=@@4 = 5", "strength=0.5", "tiled=yes", 'outpaint={"left": 8}',
        "image=@cat.png", "images=@cat.png", "images=@cat.png", "--input", '{"seed": 3}',
    )  # fmt: skip
    job = Job.objects.get()
    image, images = job.input["image"], job.input["images"]
    assert {image, *images} == {str(file.pk) for file in File.objects.all()}
    assert len(images) == 2
    wanted = {
        "prompt": "@4 = 5",
        "strength": 0.5,
        "tiled": True,
        "outpaint": {"left": 8},
        "seed": 3,
    }
    assert {name: job.input[name] for name in wanted} == wanted


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["steps=4"], "input.steps: atelier/edit has no such input. Did you mean num_inference"),
        (["num_images=two"], "input.num_images: 'two' is no integer."),
        (["tiled=maybe"], "input.tiled: 'maybe' is no boolean."),
        (["outpaint=[1]"], "input.outpaint: '[1]' is no object."),
        (["image=@absent.png"], "input.image: there is no file 'absent.png'."),
        (
            ["num_image=@absent.png"],
            "input.num_image: atelier/edit has no such input. Did you mean image?",
        ),
        (
            ["prompt=@absent.txt"],
            "input.prompt is no file: for a text that begins with @, write @@",
        ),
        (["prompt"], "'prompt' is not of the form name=value."),
        (["prompt=a", "prompt=b"], "input.prompt: given twice."),
        (["--input", "{"], "--input is not JSON"),
        (["--input", "[]"], "--input must be a JSON object."),
        (["num_images=99"], "input.num_images"),
        ([], "input.prompt"),
        (
            ["prompt=a", "--max-charge", "0.001"],
            "This would cost up to $0.004, more than you allow.",
        ),
        (["prompt=a", "--max-charge", "lots"], "--max-charge: 'lots' is not an amount"),
        (["prompt=a", "--nonsense"], "unrecognized arguments: --nonsense"),
    ],
)
def test_a_mistake_is_one_line_that_names_it(market, start, edit, words, said):
    process = start("submit", edit, *words)
    out, told = process.communicate(timeout=60)
    assert (out, process.returncode in (1, 2)) == ("", True)
    assert said in told.splitlines()[-1]
    assert "Traceback" not in told
    assert Job.objects.count() == 0


def test_refusals_are_one_line(market, mercato, env):
    assert "no model" in mercato("run", "atelier/nothing", PROMPT, code=1)[1]
    assert "vendor/name" in mercato("run", "nothing", PROMPT, code=1)[1]
    env["MERCATO_KEY"] = "mk_nonsense"
    assert "mercato login" in mercato("balance", code=1)[1]
    env["MERCATO_KEY"] = market.stranger_secret
    assert len(mercato("run", market.ref, PROMPT, code=1)[1].splitlines()) == 1
    env["MERCATO_URL"] = "ftp://x"
    assert "no http(s) URL" in mercato("balance", code=1)[1]


def test_a_failed_job_fails_the_command(market, mercato):
    with working(failing()):
        out, said = mercato("run", market.ref, PROMPT, code=1)
    assert (out, said.splitlines()) == (
        "", [f"mercato: The model failed on this input. Cost: $0.00 (job {Job.objects.get().pk})"]
    )  # fmt: skip


def test_a_quote_starts_nothing(market, mercato):
    assert mercato("quote", market.ref, PROMPT, "num_images=2") == ("At most $0.008\n", "")
    assert mercato("run", market.ref, PROMPT, "--quote") == ("At most $0.004\n", "")
    assert json.loads(mercato("quote", market.ref, PROMPT, "--json")[0])["quote_nano_usd"] == 4e6
    assert Job.objects.count() == 0


def test_a_job_is_submitted_followed_and_cancelled(market, mercato, start):
    job_id = mercato("run", market.ref, PROMPT, "--no-wait")[0].strip()
    assert f"{job_id}  atelier/sketch:1  queued" in mercato("status", job_id)[0]
    assert "cancelled" in mercato("cancel", job_id)[0]
    other = mercato("submit", market.ref, PROMPT)[0].strip()
    follower = start("follow", other)
    assert other in follower.stdout.readline()
    with working():
        told = follower.communicate(timeout=30)[0]
    assert "step 4 of 4" in told
    assert told.count("cost $0.004") == 1
    assert "{" not in told
    assert mercato("follow", other)[0].count(other) == 1, "it is told once"
    told, said = mercato("cancel", other, code=1)
    assert ("succeeded" in told, said) == (True, "It had ended already.\n")
    lines = mercato("events", other, "--json")[0].splitlines()
    assert json.loads(lines[-1])["type"] == "done"
    rows = mercato("jobs")[0].splitlines()
    assert [row.split()[:3] for row in rows] == [
        [other, "succeeded", "$0.004"],
        [job_id, "cancelled", "$0.00"],
    ]
    assert len(mercato("jobs", "--limit", "1")[0].splitlines()) == 1


def test_one_looks_around(market, mercato, edit, tmp_path):
    assert "atelier/edit" in mercato("models", "edit")[0]
    shown = mercato("model", edit)[0]
    assert re.search(r"prompt +string +required +1 to 200 characters", shown)
    assert re.search(r"num_images +integer += 1 +1 to 4", shown)
    assert "$0.004 per image" in shown
    assert mercato("balance")[0] == "$1.00 can be spent\n"
    picture = tmp_path / "cat.png"
    picture.write_bytes(PIXEL)
    out, said = mercato("upload", picture)
    assert out.strip() == str(File.objects.get().pk)
    assert said == f"cat.png: image/png, {len(PIXEL)} bytes\n"


def test_a_key_is_kept_for_its_market_only(market, mercato, env, tmp_path, settings):
    secret = env.pop("MERCATO_KEY")
    typed = tmp_path / "key"
    typed.write_text(secret + "\n")
    with typed.open() as keyboard:
        assert "$1.00 can be spent" in mercato("login", stdin=keyboard)[1]
    kept = tmp_path / "home" / ".config" / "mercato" / "login.json"
    assert kept.stat().st_mode & 0o777 == 0o600
    assert "can be spent" in mercato("balance")[0]
    settings.ALLOWED_HOSTS = ["127.0.0.1", "localhost"]
    elsewhere = market.url.replace("127.0.0.1", "localhost")
    assert "mercato login" in mercato("--url", elsewhere, "balance", code=1)[1]
    del env["MERCATO_URL"]
    assert "can be spent" in mercato("balance")[0], "the market is kept too"
    assert "is gone" in mercato("login", "--forget")[1]
    assert not kept.exists()
    assert mercato("login", "--forget")[1] == "No key is kept.\n"


def test_a_wrong_key_is_not_kept(market, mercato, env, tmp_path):
    (tmp_path / "key").write_text("mk_nonsense\n")
    with (tmp_path / "key").open() as keyboard:
        mercato("login", stdin=keyboard, code=1)
    assert not (tmp_path / "home").exists()


def steps(job):
    """Take the job and tell a step, and go on until it is cancelled."""
    services.job_started(report_started(job))
    events.emit(job.pk, "progress", {"step": 1, "steps": 4})


def until(true, what):
    for _ in range(300):
        if true():
            return
        time.sleep(0.05)
    pytest.fail(f"waited in vain until {what}")


def test_control_c_cancels_the_job(market, start):
    process = start("run", market.ref, PROMPT)
    until(Job.objects.exists, "there is a job")
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    out, said = process.communicate(timeout=30)
    assert (out, process.returncode) == ("", 130)
    assert "The job was cancelled. Cost: $0.00" in said
    assert Job.objects.get().status == "cancelled"


def test_control_c_before_the_answer_to_the_submission_cancels_too(market, start, env):
    network = Network(market.url)
    env["MERCATO_URL"], network.answers_after_s = network.url, 0.7
    process = start("run", market.ref, PROMPT)
    until(Job.objects.exists, "there is a job")
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    network.close()
    assert (process.returncode, Job.objects.get().status) == (130, "cancelled"), said


def test_a_second_control_c_does_not_wait_for_the_end_of_the_job(market, start):
    with working(steps):
        process = start("run", market.ref, PROMPT)
        until(Job.objects.filter(status="running").exists, "it runs")
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        until(Job.objects.filter(cancel_requested_at__isnull=False).exists, "it is cancelled")
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    job = Job.objects.get()
    assert process.returncode == 130
    assert f"mercato status {job.pk}" in said
    assert job.status == "running", "no worker has stopped it yet"


def test_on_a_terminal_there_is_one_line_of_progress(market, start):
    def slowly(job):
        steps(job)
        time.sleep(0.3)
        events.emit(job.pk, "progress", {"step": 2, "steps": 4})
        services.job_finished(report_finished(job))

    ours, theirs = pty.openpty()
    with working(slowly):
        process = start("run", market.ref, PROMPT, stderr=theirs)
        out, _ = process.communicate(timeout=30)
    os.close(theirs)
    shown = os.read(ours, 65536).decode()
    os.close(ours)
    assert process.returncode == 0
    assert re.search(r"\r\x1b\[K\[##########+ +\] 1/4 running \d", shown)
    assert "] 2/4" in shown
    assert shown.endswith("\r\x1b[KCost: $0.004\r\n"), "the line is taken away"
    assert "\n" not in shown.partition("Cost")[0]
    assert out.endswith(".png\n")


def test_a_budget_is_told_in_a_line(market, mercato, env):
    _, env["MERCATO_KEY"] = accounts.api_key_create(
        org=market.developer, name="small", scopes=["run", "read"], monthly_budget_nano=1
    )
    assert "budget" in mercato("run", market.ref, PROMPT, code=1)[1]
