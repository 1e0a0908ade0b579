"""Opens pages in Chromium as the people of a populated market, and collects what is wrong."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from playwright.sync_api import Error as PlaywrightError

from tests.pages.routes import Page, Site

AXE = (Path(__file__).parent / "vendor" / "axe.min.js").read_text()
# WCAG 2.2, levels A and AA.
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
RUN_AXE = """async (tags) => {
  const options = {runOnly: {type: "tag", values: tags}, resultTypes: ["violations"]};
  const found = await axe.run(document, options);
  return found.violations.map((v) =>
    `axe ${v.id} (${v.nodes.length}): ` + v.nodes.slice(0, 3).map((n) => n.target.join(" "))
      .join(" | "));
}"""
# The widest element that sticks out names the fault better than a number does.
STICKS_OUT = """() => {
  const width = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth <= window.innerWidth) return "";
  const scrolls = (e) => e && e !== document.body &&
    (getComputedStyle(e).overflowX !== "visible" || scrolls(e.parentElement));
  const all = [...document.querySelectorAll("body *")].filter((e) =>
    e.getBoundingClientRect().right > width + 1);
  const e = all.find((e) => !scrolls(e.parentElement)) || all[0];
  const kind = e ? e.tagName.toLowerCase() + (e.className ? "." + e.className : "") : "";
  return `scrolls sideways at ${window.innerWidth} px: ${kind}`;
}"""
UNREADABLE = """() => {
  const shown = (e) => e.checkVisibility({visibilityProperty: true});
  const found = [];
  const h1 = document.querySelector("h1");
  if (!h1 || !shown(h1) || !h1.textContent.trim()) found.push("no heading is seen");
  const main = document.querySelector("main");
  if (!main || main.innerText.trim().length < 20) found.push("main is empty");
  for (const form of document.querySelectorAll("form")) {
    const fields = [...form.elements].filter((e) =>
      e.matches("input:not([type=hidden]), select, textarea") && shown(e));
    const buttons = [...form.elements].filter((e) =>
      (e.matches("button, input[type=submit], input[type=image]")) && e.type === "submit"
      && shown(e));
    const ways = [...form.querySelectorAll("a[href]")].filter(shown);  // "Sign in to run"
    if (fields.length && !buttons.length && !ways.length) {
      found.push(`form ${form.getAttribute("action") || ""} has no button: ${fields[0].name}`);
    }
  }
  return found;
}"""
DESKTOP = {"width": 1280, "height": 900}
PHONE = {"width": 360, "height": 740}
PAGES_A_TAB = 25
"""A new tab has no styles and scripts in its memory, and an old one has too much."""


class Visitor:
    """One browser context, in which one person after another opens pages."""

    def __init__(self, browser: Any, url: str, site: Site, **options: Any) -> None:
        self.site = site
        self.url = url
        self.context = browser.new_context(
            base_url=url, viewport=DESKTOP, reduced_motion="reduce", **options
        )
        self.viewport = DESKTOP
        self._opened = 0
        self.complaints: list[str] = []
        self._who = "visitor"
        self.page: Any = None

    def open(self, page: Page) -> list[str]:
        """Open a page as its audience. Returns what went wrong while it loaded."""
        if page.audience != self._who:
            self._become(page.audience)
        self._fresh_tab()
        answer = self.page.goto(page.path, wait_until="load")
        if answer.status != 200 or not self.page.url.endswith(page.path):
            self.complaints.append(f"answered {answer.status} at {self.page.url}")
        return self.complaints

    def axe(self) -> list[str]:
        """Return the violations that axe-core finds on the open page."""
        complaints = len(self.complaints)
        self.page.evaluate(AXE)
        found: list[str] = self.page.evaluate(RUN_AXE, TAGS)
        del self.complaints[complaints:]  # what axe itself does is not the page's
        return found

    def too_wide(self, viewport: dict[str, int]) -> list[str]:
        """Return what sticks out of a viewport of this size, if anything does."""
        self.page.set_viewport_size(viewport)
        found = self.page.evaluate(STICKS_OUT)
        return [found] if found else []

    def unreadable(self) -> list[str]:
        """Return what is missing from the open page for somebody without scripts."""
        found: list[str] = self.page.evaluate(UNREADABLE)
        return found

    def close(self) -> None:
        """Close the context."""
        self.context.close()

    def renew(self) -> None:
        """Have the next page opened in a new tab."""
        if self.page is not None:
            self.page.close()
        self.page = None

    def _fresh_tab(self) -> None:
        """Begin anew: nothing of the page before speaks, and little memory is kept."""
        self._opened += 1
        if self._opened % PAGES_A_TAB == 0:
            self.renew()
        if self.page is not None:
            self.page.goto("about:blank")
            self.page.set_viewport_size(self.viewport)
            self.complaints = []
            return
        self.complaints = []
        self.page = self.context.new_page()
        self.page.set_default_timeout(60_000)
        self.page.set_viewport_size(self.viewport)
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.complaints.append(f"script error: {error}"))
        self.page.on("requestfailed", self._failed)
        self.page.on("response", self._answered)

    def _become(self, who: str) -> None:
        self.context.clear_cookies()
        cookies = [
            {"name": name, "value": morsel.value, "url": self.url}
            for name, morsel in self.site.clients[who].cookies.items()
        ]
        self.context.add_cookies(cookies) if cookies else None
        self._who = who

    def _said(self, line: Any) -> None:
        if line.type in ("error", "warning"):
            self.complaints.append(f"console: {line.text}"[:300])

    def _failed(self, request: Any) -> None:
        if "ERR_ABORTED" not in (request.failure or ""):  # by leaving the page
            self.complaints.append(f"failed: {request.url} {request.failure}")

    def _answered(self, response: Any) -> None:
        if response.status >= 400:
            self.complaints.append(f"{response.status} for {response.url}")


def survey(visitor: Visitor, pages: list[Page], look: Any) -> list[str]:
    """Open every page and look. Returns one line a fault, and prints each when it is found."""
    began, faults = time.perf_counter(), []
    for page in pages:
        for problem in dict.fromkeys(_looked_at(visitor, page, look)):
            faults.append(f"{page} {page.path}: {problem}")
            print(faults[-1], flush=True)
    took = time.perf_counter() - began
    print(f"{len(pages)} pages in {took:.0f} s")
    return faults


def _looked_at(visitor: Visitor, page: Page, look: Any) -> list[str]:
    """Return a page's problems. A tab that crashes, as on a starved machine, gets a second try."""
    for _ in range(2):
        try:
            problems = list(visitor.open(page))
            return problems + list(look(visitor))
        except PlaywrightError as error:
            if "crashed" not in error.message:
                return [f"{type(error).__name__}: {error.message[:200]}"]
            visitor.renew()
    return ["the tab crashed twice"]
