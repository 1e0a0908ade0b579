"""What a browser sees of a page: largest paint, shifts, bytes and requests, on a cold cache."""

from __future__ import annotations

import os
import shutil
import statistics
from typing import Any

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
OBSERVE = """
window.vitals = {lcp: 0, cls: 0};
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) window.vitals.lcp = entry.startTime;
}).observe({type: "largest-contentful-paint", buffered: true});
new PerformanceObserver((list) => {
  for (const e of list.getEntries()) if (!e.hadRecentInput) window.vitals.cls += e.value;
}).observe({type: "layout-shift", buffered: true});
"""
PICTURES = ("Image", "Media")


def chromium() -> str | None:
    """Return the browser's path, if there is one."""
    return os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")


def vitals(
    url: str, paths: dict[str, str], cookies: dict[str, str], rounds: int
) -> dict[str, dict[str, float]]:
    """Open each page `rounds` times. Returns medians by name: ms, bytes, counts, shift score."""
    from playwright.sync_api import sync_playwright

    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        found = {}
        for name, path in paths.items():
            rows = [_once(browser, url, path, cookies) for _ in range(rounds)]
            found[name] = {
                key: round(statistics.median(row[key] for row in rows), 3) for key in rows[0]
            }
        browser.close()
    return found


def _once(browser: Any, url: str, path: str, cookies: dict[str, str]) -> dict[str, float]:
    context = browser.new_context(base_url=url, viewport={"width": 1280, "height": 900})
    context.add_cookies(
        [{"name": name, "value": value, "url": url} for name, value in cookies.items()]
    )
    context.add_init_script(OBSERVE)
    page = context.new_page()
    network = context.new_cdp_session(page)
    network.send("Network.enable")
    kinds: dict[str, str] = {}
    sizes: dict[str, float] = {}
    network.on("Network.responseReceived", lambda e: kinds.update({e["requestId"]: e["type"]}))
    network.on(
        "Network.loadingFinished",
        lambda e: sizes.update({e["requestId"]: e["encodedDataLength"]}),
    )
    page.goto(path, wait_until="load")
    page.wait_for_function("window.vitals.lcp > 0")  # a busy machine paints late
    page.wait_for_timeout(700)  # fonts, late shifts, a first poll
    seen = page.evaluate("window.vitals")
    context.close()
    plain = [size for key, size in sizes.items() if kinds.get(key) not in PICTURES]
    return {
        "lcp_ms": seen["lcp"],
        "cls": seen["cls"],
        "bytes": sum(plain),
        "requests": len(sizes),
    }
