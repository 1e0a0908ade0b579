"""The programs on the pages about other vendors' clients make a picture, on the live server."""

import re
from pathlib import Path

import pytest

from marketplace.jobs.models import Job
from tests.clients.conftest import working
from tests.clients.samples.test_each_sample_runs_as_it_stands import run

DOCS = Path(__file__).parents[3] / "templates" / "docs"
SHELL = re.compile(r"export (\w+)=(\S+)")


def programs():
    for page in ("fal", "openai", "replicate"):
        text = (DOCS / f"{page}.md").read_text()
        for kind, name in (("python", "python"), ("js|javascript", "javascript")):
            for code in re.findall(rf"```(?:{kind})\n(.*?)```", text, re.DOTALL):
                yield pytest.param(f"{page}-{name}", code, text, id=f"{page}-{name}")


def test_each_page_has_one_of_each():
    names = [program.values[0] for program in programs()]
    pages = ("fal", "openai", "replicate")
    assert names == [f"{page}-{kind}" for page in pages for kind in ("python", "javascript")]


@pytest.mark.parametrize(("name", "code", "text"), programs())
def test_a_program_of_the_page_makes_a_picture(market, tmp_path, name, code, text):
    def here(said):
        given = {
            "{{ PUBLIC_URL }}": market.url,
            "$MERCATO_KEY": market.secret,
            "starter-lab/starter-image": market.ref,
        }
        for word, meant in given.items():
            said = said.replace(word, meant)
        return said

    code = here(code)
    if name in ("openai-python", "replicate-python"):
        exported = dict(SHELL.findall(here(text)))
        code = f"import os\nos.environ |= {exported!r}\n{code}"
    with working():
        run(name, code, market, tmp_path)
    job = Job.objects.get()
    assert (job.status, job.input["prompt"]) == ("succeeded", "a red circle")
