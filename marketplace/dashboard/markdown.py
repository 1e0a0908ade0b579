"""Markdown to HTML, without raw HTML: for our documentation and for vendors' descriptions."""

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from django.utils.safestring import SafeString
from markdown_it import MarkdownIt
from markdown_it.common.utils import escapeHtml
from markdown_it.token import Token

_ours = MarkdownIt("commonmark", {"html": False}).enable("table")
_theirs = MarkdownIt("commonmark", {"html": False, "linkify": False}).enable("table")
# A picture in a description would be fetched from somebody's server by every reader.
_theirs.disable("image")


def _open_table(*_anything: Any) -> str:
    return '<div class="scroll" tabindex="0" role="region" aria-label="Table"><table class="table">'


def _close_table(*_anything: Any) -> str:
    return "</table></div>"


def _code(text: str, number: int, ident: str = "") -> str:
    """Return code that a keyboard can scroll where it is wider than the page."""
    return (
        f'<pre tabindex="0" role="region" aria-label="Code {number}">'
        f"<code{ident}>{escapeHtml(text)}</code></pre>"
    )


def _plain_code(tokens: list[Token], at: int, _options: Any, env: dict[str, int]) -> str:
    env["code"] = number = env.get("code", 0) + 1
    return _code(tokens[at].content, number) + "\n"


def _fence(tokens: list[Token], at: int, _options: Any, env: dict[str, int]) -> str:
    """Draw a block of code with a button that copies it."""
    env["code"] = number = env.get("code", 0) + 1
    ident = f' id="code-{number}"'
    copy = f'<button type="button" class="button plain small" data-copy="code-{number}" hidden>'
    code = _code(tokens[at].content, number, ident)
    return f'<div class="snippet">{copy}Copy</button>{code}</div>\n'


_ours.add_render_rule("fence", lambda _, *given: _fence(*given))
_theirs.add_render_rule("fence", lambda _, *given: _plain_code(*given))


# A wide table scrolls by itself on a narrow screen, by keyboard too.
for parser in (_ours, _theirs):
    parser.add_render_rule("code_block", lambda _, *given: _plain_code(*given))
    parser.add_render_rule("table_open", _open_table)
    parser.add_render_rule("table_close", _close_table)


@dataclass(frozen=True, slots=True)
class Section:
    """What stands under one heading, as plain text; the part before the first has no anchor."""

    anchor: str
    heading: str
    text: str


@dataclass(frozen=True, slots=True)
class Page:
    """A rendered page, its headings of the second level as (anchor, text), and all sections."""

    html: SafeString
    headings: list[tuple[str, str]]
    sections: list[Section]


def _anchor(text: str, taken: set[str]) -> str:
    """Return an id for a heading; one that is there already gets a number."""
    plain = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    found, number = plain, 1
    while found in taken:
        number += 1
        found = f"{plain}-{number}"
    taken.add(found)
    return found


def _plain(token: Token) -> str:
    """Return the text of a token without its marks."""
    if token.children is None:
        return token.content if token.type in ("fence", "code_block") else ""
    return "".join(
        " " if child.type == "softbreak" else child.content
        for child in token.children
        if child.type in ("text", "code_inline", "softbreak")
    )


def _sections(tokens: list[Token]) -> tuple[list[tuple[str, str]], list[Section]]:
    """Give each heading below the title an id and a link to itself. Returns what stands where."""
    headings: list[tuple[str, str]] = []
    taken: set[str] = set()
    parts: list[tuple[str, str, list[str]]] = [("", "", [])]
    for before, token in pairwise(tokens):
        if before.type == "heading_open" and before.tag in ("h2", "h3"):
            heading = _plain(token)
            anchor = _anchor(heading, taken)
            before.attrSet("id", anchor)
            if before.tag == "h2":
                headings.append((anchor, heading))
            parts.append((anchor, heading, []))
        elif before.type != "heading_open":
            parts[-1][2].append(_plain(token))
    sections = [
        Section(anchor, heading, " ".join(" ".join(texts).split()))
        for anchor, heading, texts in parts
        if heading or any(texts)
    ]
    return headings, sections


def render_page(text: str) -> Page:
    """Render a page of ours."""
    tokens = _ours.parse(text)
    headings, sections = _sections(tokens)
    html: str = _ours.renderer.render(tokens, _ours.options, {})
    return Page(SafeString(html), headings, sections)


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
