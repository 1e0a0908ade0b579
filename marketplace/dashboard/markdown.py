"""Markdown to HTML, without raw HTML: for our documentation and for vendors' descriptions."""

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from django.utils.safestring import SafeString
from markdown_it import MarkdownIt
from markdown_it.token import Token

_ours = MarkdownIt("commonmark", {"html": False}).enable("table")
_theirs = MarkdownIt("commonmark", {"html": False, "linkify": False}).enable("table")
# A picture in a description would be fetched from somebody's server by every reader.
_theirs.disable("image")


def _open_table(*_anything: Any) -> str:
    return '<div class="scroll" tabindex="0" role="region" aria-label="Table"><table class="table">'


def _close_table(*_anything: Any) -> str:
    return "</table></div>"


# A wide table scrolls by itself on a narrow screen, by keyboard too.
for parser in (_ours, _theirs):
    parser.add_render_rule("table_open", _open_table)
    parser.add_render_rule("table_close", _close_table)


@dataclass(frozen=True, slots=True)
class Page:
    """A rendered page and its headings of the second level: (anchor, text)."""

    html: SafeString
    headings: list[tuple[str, str]]


def _anchor(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _headings(tokens: list[Token]) -> list[tuple[str, str]]:
    """Give each second-level heading an id. Returns them."""
    found = []
    for token, inside in pairwise(tokens):
        if token.type == "heading_open" and token.tag == "h2":
            anchor = _anchor(inside.content)
            token.attrSet("id", anchor)
            found.append((anchor, inside.content))
    return found


def render_page(text: str) -> Page:
    """Render a page of ours."""
    tokens = _ours.parse(text)
    headings = _headings(tokens)
    html: str = _ours.renderer.render(tokens, _ours.options, {})
    return Page(SafeString(html), headings)


def render_description(text: str) -> SafeString:
    """Render what a vendor wrote: no raw HTML, no pictures, links without our blessing."""
    tokens = _theirs.parse(text)
    for token in tokens:
        for child in token.children or ():
            if child.type == "link_open":
                child.attrSet("rel", "nofollow noopener ugc")
        if token.type in ("heading_open", "heading_close") and token.tag in ("h1", "h2"):
            token.tag = "h3"
    html: str = _theirs.renderer.render(tokens, _theirs.options, {})
    return SafeString(html)  # raw HTML is off, and markdown-it refuses links that run scripts
