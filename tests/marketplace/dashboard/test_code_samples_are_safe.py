"""The samples are pasted into terminals and programs: no input may end a quoted string."""

import ast
import json
import shlex
from html import unescape

import pytest
from django.template.loader import render_to_string
from hypothesis import given as of
from hypothesis import settings as how
from hypothesis import strategies as st

from marketplace.catalog.models import Task
from marketplace.dashboard.model_facts import example_of
from marketplace.dashboard.snippets import snippets_of
from mercato.cli.values import input_of
from mercato.models import Model

REF = "atelier/sketch"
NASTY = [
    "it's",
    "$(reboot)",
    '"; rm -rf ~; "',
    "`x`",
    "\\",
    "</script><b>",
    "{{ x }}",
    "${x}",
    "!!",
]
TEXT = st.one_of(
    st.sampled_from(NASTY),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
)
VALUE = st.one_of(TEXT, st.integers(), st.booleans(), st.lists(TEXT), st.dictionaries(TEXT, TEXT))
NAME = st.one_of(TEXT.filter(bool), st.sampled_from(["prompt", "seed", "image", "n", "model"]))
GIVEN = st.dictionaries(NAME, VALUE, max_size=4)
TASKS = st.sampled_from([Task.TEXT_TO_IMAGE, Task.TEXT_TO_VIDEO])


def shown_of(given, task=Task.TEXT_TO_IMAGE):
    """Return the samples as a page has them, by id, in HTML."""
    return {
        snippet["id"]: render_to_string(snippet["template"], {"snippet": snippet})
        for group in snippets_of(REF, given, task)
        for snippet in group["snippets"]
    }


def model_of(given):
    """Return a model that takes these inputs, each as the type that it has."""
    types = {str: "string", int: "integer", bool: "boolean", list: "array", dict: "object"}
    nodes = {name: {"type": types[type(value)]} for name, value in given.items()}
    version = {
        "id": "", "number": 1, "family": "", "licence": {}, "input_schema": {"properties": nodes}
    }  # fmt: skip
    told = dict.fromkeys(("title", "summary", "description", "task"), "")
    return Model.from_json({**told, "model": REF, "version": version})


def test_the_body_is_one_word_of_the_shell():
    given = example_of({"required": [*NASTY, "prompt"], "properties": {}})
    words = shlex.split(unescape(shown_of(given)["curl"]))
    assert words[0] == "curl"
    assert words[-2] == "-d"
    assert list(json.loads(words[-1])["input"]) == [*NASTY, "prompt"]


@how(max_examples=60, deadline=None)
@of(GIVEN, TASKS)
def test_no_sample_has_a_tag(given, task):
    assert "<" not in "".join(shown_of(given, task).values())


@how(max_examples=60, deadline=None)
@of(GIVEN)
def test_the_command_line_reads_its_sample_as_the_input(given):
    words = shlex.split(unescape(shown_of(given)["shell"]))
    assert words[:5] == ["export", words[1], "mercato", "run", REF]
    whole = words[6] if words[5:6] == ["--input"] and len(words) == 7 else None
    values = [] if whole is not None else words[5:]
    assert input_of(model_of(given), values, whole) == given


@how(max_examples=60, deadline=None)
@of(GIVEN, TASKS)
def test_python_reads_its_samples_as_the_input(given, task):
    for name, html in shown_of(given, task).items():
        if "python" not in name and name != "mercato":
            continue
        tree = ast.parse(unescape(html))
        named = {
            node.targets[0].id: node.value
            for node in tree.body
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
        }
        if name == "openai-python":
            prompt = next(
                word.value for node in ast.walk(tree) if isinstance(node, ast.Call)
                for word in node.keywords if word.arg == "prompt"
            )  # fmt: skip
            rest = ast.literal_eval(named["more"]) if "more" in named else {}
            assert {"prompt": ast.literal_eval(prompt), **rest} == given
        else:
            assert ast.literal_eval(named["given"]) == given


@how(max_examples=60, deadline=None)
@of(GIVEN, TASKS)
def test_javascript_reads_its_samples_as_the_input(given, task):
    for name, html in shown_of(given, task).items():
        if "javascript" not in name:
            continue
        code = unescape(html)
        rest = code.partition("const input = ")[2]
        read, end = json.JSONDecoder().raw_decode(rest)
        assert (read, rest[end : end + 2]) == (given, ";\n")
        assert rest[:end].isascii(), "no line end of an old engine"


@pytest.mark.parametrize("name", ["image", "model", "n", "size", "stream", "response_format"])
def test_what_openais_client_sends_in_another_way_has_no_sample_of_it(name):
    assert "openai-python" in shown_of({"prompt": "x"})
    assert "openai-python" not in shown_of({"prompt": "x", name: "y"})
    assert "openai-python" not in shown_of({"words": "x"})
