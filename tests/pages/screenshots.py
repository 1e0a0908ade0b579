"""`make screenshots`: a fresh market makes real pictures, and its main pages are photographed.

Light, dark and on a phone, into `templates/docs/images/<page>-<screen>.webp`. Names are the same
every time; what is seen differs in times and ids only.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from marketplace.local.client import Client
from marketplace.local.environment import REPOSITORY
from marketplace.local.market import Market
from marketplace.local.processes import LocalError, ignore_interrupts
from marketplace.local.valkey import free_port
from tests.pages.bench.vitals import FLAGS, chromium

OUT = REPOSITORY / "templates" / "docs" / "images"
MOST_BYTES = 1_000_000
QUALITY = 60  # of WebP: letters stay sharp
SCREENS = {"light": ("light", 1280, 800), "dark": ("dark", 1280, 800), "phone": ("light", 360, 740)}
PROMPTS = (
    "a red circle above a blue square on a white background",
    "a green triangle on a black background",
    "a yellow circle on a purple background",
    "a blue square left of an orange circle",
    "a purple triangle above a green circle",
    "an orange square on a white background",
)
# Who looks at which page; {job} is a job that has pictures.
PAGES = {
    "gallery": ("", "/"),
    "model": ("developer", "/models/starter-lab/starter-image/?from={job}"),
    "docs": ("", "/docs/quickstart/"),
    "overview": ("developer", "/dashboard/"),
    "jobs": ("developer", "/dashboard/jobs/"),
    "job": ("developer", "/dashboard/jobs/{job}/"),
    "usage": ("developer", "/dashboard/usage/"),
    "billing": ("developer", "/dashboard/billing/"),
    "vendor": ("vendor", "/vendor/"),
    "earnings": ("vendor", "/vendor/earnings/"),
    "console": ("staff", "/console/"),
}
SETTINGS = {"SWEEP_EVERY_S": "1", "EMAIL_URL": "dummymail://", "READS_BURST": "10000"}


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def pictures(url: str, seed: Mapping[str, Any]) -> str:
    """Have real pictures made over the API. Returns the id of a job with four of them."""
    api = Client(url, seed["api_key"])
    shown = ""
    for number, prompt in enumerate(PROMPTS):
        given = {"prompt": prompt, "seed": 7}
        if number == len(PROMPTS) - 1:
            given |= {"prompt": PROMPTS[0], "num_images": 4}
        body = {"model": seed["model"], "input": given}
        job = api.post_json("/v1/jobs", body, {"Prefer": "wait=60"})
        until = time.monotonic() + 240
        while job["status"] in ("queued", "running") and time.monotonic() < until:
            time.sleep(1)
            job = api.get(f"/v1/jobs/{job['id']}").json()
        if job["status"] != "succeeded":
            raise LocalError(f"Job {job['id']} {job['status']}", json.dumps(job.get("error")))
        _say(f"{prompt}: {job['charge_nano_usd'] / 1e9} USD")
        shown = job["id"]
    return shown


def sessions(env: Mapping[str, str], logins: list[dict[str, str]]) -> dict[str, dict[str, str]]:
    """Return session cookies by role: signed in, and staff with a second factor."""
    os.environ.update(env)
    import django

    django.setup()
    from allauth.mfa.totp.internal.auth import TOTP, generate_totp_secret

    from marketplace.accounts.models import User
    from tests.pages.routes import signed_in

    found = {}
    for login in logins:
        user = User.objects.get(email=login["email"])
        if user.is_staff:
            TOTP.activate(user, generate_totp_secret())
        cookies = signed_in(user).cookies
        found[login["role"]] = {name: morsel.value for name, morsel in cookies.items()}
    return found


def _save(png: bytes, path: Path) -> int:
    with Image.open(io.BytesIO(png)) as picture:
        picture.convert("RGB").save(path, "WEBP", quality=QUALITY, method=6)
    return path.stat().st_size


def photograph(
    url: str, job: str, cookies: Mapping[str, Mapping[str, str]], out: Path
) -> dict[str, int]:
    """Photograph every page on every screen. Returns the sizes of the files in bytes."""
    from playwright.sync_api import sync_playwright

    sizes = {}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        for screen, (scheme, width, height) in SCREENS.items():
            for name, (role, path) in PAGES.items():
                context = browser.new_context(
                    base_url=url, color_scheme=scheme, reduced_motion="reduce",
                    viewport={"width": width, "height": height},
                )  # fmt: skip
                context.add_cookies(
                    [
                        {"name": key, "value": value, "url": url}
                        for key, value in cookies.get(role, {}).items()
                    ]
                )
                page = context.new_page()
                answer = page.goto(path.format(job=job), wait_until="load")
                if answer.status != 200 or "/accounts/login/" in page.url:
                    raise LocalError(f"{path} answered {answer.status} at {page.url}")
                page.wait_for_timeout(600)  # the quote, and pictures that load late
                file = out / f"{name}-{screen}.webp"
                sizes[file.name] = _save(page.screenshot(), file)
                context.close()
        browser.close()
    return sizes


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="make screenshots", description=__doc__)
    parser.add_argument("--out", type=Path, default=OUT, help=f"folder (default {OUT})")
    options = parser.parse_args()
    if chromium() is None:
        print("error: no Chromium: install it or set CHROMIUM", file=sys.stderr)
        return 1
    options.out.mkdir(parents=True, exist_ok=True)
    var = Path(tempfile.mkdtemp(prefix="mercato-screenshots-"))
    market = Market(var=var, port=free_port(), say=_say, extra_env=SETTINGS, embedded=True)
    try:
        market.start()
        job = pictures(market.url, market.seed)
        cookies = sessions(market.env, market.seed["logins"])
        sizes = photograph(market.url, job, cookies, options.out)
    except LocalError as error:
        print(f"{error.detail}\nerror: {error}", file=sys.stderr)
        return 1
    finally:
        ignore_interrupts()
        market.stop()
        shutil.rmtree(var, ignore_errors=True)
    total = sum(sizes.values())
    print(f"{len(sizes)} pictures in {options.out}, {total / 1000:.0f} KB")
    if total > MOST_BYTES:
        print(f"error: more than {MOST_BYTES / 1000:.0f} KB", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
