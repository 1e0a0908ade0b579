"""What every rendered page must obey, read from its HTML: no inline code, labels, one heading."""

from __future__ import annotations

from html.parser import HTMLParser

VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "wbr"}
NEEDS_NO_LABEL = {"hidden", "submit", "button", "reset", "image"}
NAMED_BY = {"aria-label", "aria-labelledby", "title"}


class Reader(HTMLParser):
    """Collects the problems of one page. A template's content counts: it is shown later."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.problems: list[str] = []
        self.headings = self.mains = 0
        self.language = self.title = ""
        self._ids: set[str] = set()
        self._labels: set[str] = set()
        self._fields: list[tuple[str, str]] = []
        self._forms: list[dict[str, bool]] = []
        self._open: list[str] = []
        self.feed(text)
        self._end()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if len(given) < len(attrs):
            self._say(tag, "has an attribute twice")
        if tag not in VOID:
            self._open.append(tag)
        self._code(tag, given)
        if (ident := given.get("id")) is not None:
            if ident in self._ids or not ident or " " in ident:
                self._say(tag, f"id {ident!r} is not unique, or empty")
            self._ids.add(ident)
        self.headings += tag == "h1"
        self.mains += tag == "main"
        if tag == "html":
            self.language = given.get("lang", "")
        if tag == "img" and "alt" not in given:
            self._say(tag, f"{given.get('src', '')[:60]} has no alt")
        if tag == "label" and "for" in given:
            self._labels.add(given["for"])
        self._form(tag, given)

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            pass
        if tag == "form" and self._forms:
            form = self._forms.pop()
            if form["fields"] and not form["submit"]:
                self.problems.append("a form has no submit button")

    def handle_data(self, data: str) -> None:
        if "title" in self._open[-1:]:
            self.title += data

    def _code(self, tag: str, given: dict[str, str]) -> None:
        if "style" in given or tag == "style":
            self._say(tag, "has an inline style")
        if handlers := [name for name in given if name.startswith("on")]:
            self._say(tag, f"has {handlers[0]}=")
        data = given.get("type") in ("application/json", "text/template")
        if tag == "script" and "src" not in given and not data:
            self._say(tag, "is inline")
        for name in ("href", "src", "action"):
            if given.get(name, "").strip().lower().startswith("javascript:"):
                self._say(tag, f"{name} is script")

    def _form(self, tag: str, given: dict[str, str]) -> None:
        kind = given.get("type", "")
        if tag == "form":
            self._forms.append({"fields": False, "submit": False})
        elif tag in ("input", "select", "textarea") and kind not in NEEDS_NO_LABEL:
            if self._forms and "form" not in given:
                self._forms[-1]["fields"] = True
            if not NAMED_BY & given.keys() and "label" not in self._open:
                self._fields.append((given.get("id", ""), given.get("name", "?")))
        elif self._forms and _leads_on(tag, kind, given):
            self._forms[-1]["submit"] = True

    def _say(self, tag: str, what: str) -> None:
        self.problems.append(f"<{tag}> {what}")

    def _end(self) -> None:
        for ident, name in self._fields:
            if ident not in self._labels:
                self.problems.append(f"the field {name} has no label")
        if self.headings != 1:
            self.problems.append(f"{self.headings} headings of level 1")
        if self.mains != 1:
            self.problems.append(f"{self.mains} main elements")
        if not self.language:
            self.problems.append("html has no lang")
        if not self.title.strip(" ·\n"):
            self.problems.append("no title")


def _leads_on(tag: str, kind: str, given: dict[str, str]) -> bool:
    """Tell whether it sends a form, or leads to where it can be sent: "Sign in to run"."""
    if tag == "a":
        return "button" in given.get("class", "")
    return kind in ("submit", "image") or (tag == "button" and not kind)


def problems_of(text: str) -> list[str]:
    """Return what is wrong with a page's HTML."""
    return list(dict.fromkeys(Reader(text).problems))
