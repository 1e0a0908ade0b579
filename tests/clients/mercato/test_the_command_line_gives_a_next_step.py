"""What the command says where a person has missed something: what it was, and what to do."""

import pytest

from marketplace.jobs.models import File, Job
from tests.cast import PIXEL, SCHEMA, listed_version
from tests.clients.conftest import working
from tests.clients.mercato.network import CLOSE, Network

PROMPT = "prompt=a red circle"


def test_without_a_key(market, mercato, env):
    del env["MERCATO_KEY"]
    said = mercato("balance", code=1)[1]
    assert said == "mercato: There is no API key. Set MERCATO_KEY, or run `mercato login`.\n"


@pytest.mark.parametrize("ref", ["atelier/nothing", "nothing", "atelier/sketch:9"])
def test_no_such_model(market, mercato, ref):
    for command in ("model", "run"):
        said = mercato(command, ref, code=1)[1]
        assert ref.partition(":")[0] in said
        assert said.endswith(". `mercato models` lists what there is.\n")
        assert said.count(ref) <= 1


def test_a_call_that_is_too_dear(market, mercato):
    said = mercato("run", market.ref, PROMPT, "--max-charge", "0.001", code=1)[1]
    assert said == "mercato: This would cost up to $0.004, more than you allow.\n"


def test_an_address_without_its_scheme(market, mercato, env):
    env["MERCATO_URL"] = market.url.removeprefix("http://")
    assert f"Did you mean {market.url}?" in mercato("balance", code=1)[1]
    env["MERCATO_URL"] = "market.example"
    assert "Did you mean https://market.example?" in mercato("balance", code=1)[1]


def test_an_address_that_ends_in_v1(market, mercato, env):
    env["MERCATO_URL"] = f"{market.url}/v1/"
    assert "can be spent" in mercato("balance")[0]


def test_https_where_there_is_none(market, start, env):
    env["MERCATO_URL"] = wrong = market.url.replace("http:", "https:")
    first = start("balance").stderr.readline()
    assert first.startswith(f"{wrong} does not speak TLS: try http://. Trying again in ")


def test_what_is_tried_again_is_told(market, mercato, env):
    network = Network(market.url)
    env["MERCATO_URL"], network.faults = network.url, [CLOSE]
    out, said = mercato("balance")
    network.close()
    assert (out, len(said.splitlines())) == ("$1.00 can be spent\n", 1)
    assert f"The connection to {network.url} broke" in said
    assert "Trying again in 0." in said


def test_the_address_may_stand_after_the_command(market, mercato, env):
    url = env.pop("MERCATO_URL")
    env["MERCATO_URL"] = "http://127.0.0.1:1"
    assert "can be spent" in mercato("balance", "--url", url)[0]
    assert "can be spent" in mercato("--url", url, "balance")[0]
    assert "--url" in mercato("run", "--help")[0]


def test_lists_that_are_empty_and_limits_that_are_none(market, mercato):
    assert mercato("models", "zzz") == ("", "There is no such model.\n")
    assert mercato("jobs") == ("", "There are no jobs.\n")
    assert mercato("jobs", "--json") == ("[]\n", "")
    assert "'-3' is no whole number from 1 up" in mercato("jobs", "--limit", "-3", code=2)[1]
    said = mercato("jobs", "--status", "nope", code=2)[1]
    assert "queued" in said
    assert "cancelled" in said


def test_a_file_for_a_model_that_takes_none(market, mercato):
    said = mercato("run", market.ref, PROMPT, "image=@cat.png", code=2)[1]
    assert said == "mercato: input.image: atelier/sketch has no such input, and takes no files.\n"


def test_an_empty_file_is_not_sent(market, mercato, tmp_path):
    image = {"image": {"type": "string", "format": "file-id"}}
    schema = {**SCHEMA, "properties": {**SCHEMA["properties"], **image}}
    listed_version(market.vendor, market.licence, market.sam, name="edit", input_schema=schema)
    (tmp_path / "here" / "cat.png").touch()
    assert mercato("upload", "cat.png", code=1)[1] == "mercato: cat.png is empty.\n"
    run = ("run", "atelier/edit", PROMPT, "image=@cat.png")
    assert mercato(*run, code=1)[1] == "mercato: cat.png is empty.\n"
    assert File.objects.count() == Job.objects.count() == 0


def test_an_output_goes_to_standard_output(market, mercato, start, tmp_path):
    with working():
        process = start("run", market.ref, PROMPT, "-o", "-", text=False)
        out, said = process.communicate(timeout=60)
        assert (out, said) == (PIXEL, b"Cost: $0.004\n")
        two = mercato("run", market.ref, PROMPT, "num_images=2", "-o", "-", code=1)
    job = Job.objects.get(quote_nano=8_000_000)
    why = f"-o - takes one output, not 2: `mercato status {job.pk}` has their links."
    assert two == ("", f"mercato: {why}\n")
    assert "do not fit" in mercato("run", market.ref, PROMPT, "-o", "-", "--json", code=2)[1]
    assert not list((tmp_path / "here").iterdir())


def test_a_name_that_says_another_type(market, mercato, tmp_path):
    with working():
        out, said = mercato("run", market.ref, PROMPT, "-o", "a.jpg")
    assert (out, (tmp_path / "here" / "a.jpg").read_bytes()) == ("a.jpg\n", PIXEL)
    assert "a.jpg is image/png, whatever its name says.\n" in said
