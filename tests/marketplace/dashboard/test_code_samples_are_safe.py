"""The samples are pasted into terminals: nothing in a schema may end a quoted string."""

import json
import shlex
from html import unescape

from django.template.loader import render_to_string

from marketplace.dashboard.model_facts import example_of
from marketplace.dashboard.snippets import snippets_of


def test_the_body_is_one_word_of_the_shell():
    names = ["it's", "$(reboot)", '"; rm -rf ~; "', "prompt"]
    given = example_of({"required": names, "properties": {}})
    curl = next(found for found in snippets_of("atelier/sketch", given) if found["id"] == "curl")
    shown = unescape(render_to_string(curl["template"], {"snippet": curl}))
    words = shlex.split(shown)
    assert words[0] == "curl"
    assert words[-2] == "-d"
    assert list(json.loads(words[-1])["input"]) == names
