"""All pages there are, found in the URL conf, with an address and the people who may open it.

A route with parameters gets them from `BY_PARAMETER`, or from `EXAMPLES` where its name says
more. A new route whose parameters have known names needs nothing here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from django.apps import apps
from django.conf import settings
from django.contrib.auth.models import AnonymousUser
from django.http import HttpResponse, HttpResponseBase
from django.test import Client
from django.urls import NoReverseMatch, URLPattern, URLResolver, get_resolver, reverse

from billing.models import Account, Incident
from marketplace.accounts.models import Membership, User
from marketplace.catalog.sample_models import SampleOutput
from marketplace.console.models import Report
from tests.cast import staff_sign_in
from tests.pages.market import STATES, Market

DOCS = sorted(path.stem for path in (settings.BASE_DIR / "templates" / "docs").glob("*.md"))

# What is no page: the API, and what machines ask for.
NO_PAGES = ("v1/", "replicate/", "healthz", "readyz", "metrics", "files/", "stripe/")

Value = Callable[[Market], Any]
BY_PARAMETER: dict[str, Value] = {
    "vendor": lambda m: m.cast.vendor.slug,
    "name": lambda m: m.cast.version.model.name,
    "number": lambda m: m.cast.version.number,
    "version_id": lambda m: m.cast.version.pk,
    "model_id": lambda m: m.cast.version.model_id,
    "job_id": lambda m: m.jobs["succeeded"].pk,
    "key_id": lambda m: m.cast.key.pk,
    "licence_id": lambda m: m.licence.pk if m.licence else None,
    "invoice_id": lambda m: m.invoice.pk,
    "note_id": lambda m: m.invoice.credit_notes.first().pk,
    "top_up_id": lambda m: m.cast.developer.top_ups.filter(state="paid").first().pk,
    "project_id": lambda m: m.cast.developer.projects.first().pk,
    "statement_id": lambda m: m.statement.pk,
    "membership_id": lambda m: Membership.objects.get(user=m.dora).pk,
    "token": lambda m: m.invitation,
    "org_id": lambda m: m.cast.developer.pk,
    "user_id": lambda m: m.cast.bob.pk,
    "app_label": lambda m: "billing",
    "report_id": lambda m: Report.objects.first().pk,  # type: ignore[union-attr]
    "incident_id": lambda m: Incident.objects.first().pk,  # type: ignore[union-attr]
    "account_id": lambda m: Account.objects.exclude(org=None).first().pk,  # type: ignore[union-attr]
    "source_id": lambda m: m.invoice.charges.first().pk,
    "sample_id": lambda m: SampleOutput.objects.filter(version__status="listed")[0].pk,
    "ending": lambda m: "png",
    "kind": lambda m: "job",
    "worker_id": lambda m: m.worker,
    "delivery_id": lambda m: m.jobs["failed"].webhook_deliveries.filter(endpoint=None).first().pk,
    "endpoint_id": lambda m: m.cast.developer.webhook_endpoints.first().pk,
}
EXAMPLES: dict[str, dict[str, Value]] = {
    "vendor-profile": {"slug": lambda m: m.cast.vendor.slug},
    "doc": {"slug": lambda m: "quickstart"},
    "admin:queue": {"name": lambda m: "webhookdelivery"},
    "admin:queue-row": {
        "name": lambda m: "webhookdelivery",
        "key": lambda m: m.jobs["failed"].webhook_deliveries.first().pk,
    },
    "admin:queue-replay": {"name": lambda m: "webhookdelivery"},
    "admin:organisation": {"slug": lambda m: m.cast.developer.slug},
    "admin:organisation-stop": {"slug": lambda m: m.cast.developer.slug},
    "admin:organisation-money": {"slug": lambda m: m.cast.developer.slug},
    "admin:flag": {"name": lambda m: "calls"},
    "account_confirm_email": {"key": lambda m: m.mail_key},
}
# More of the same route, where it looks different: the first of `EXAMPLES` is opened everywhere.
ALSO: dict[str, list[dict[str, Value]]] = {
    "job": [{"job_id": lambda m, state=state: m.jobs[state].pk} for state in STATES],  # type: ignore[misc]
    "doc": [{"slug": lambda m, slug=slug: slug} for slug in DOCS],  # type: ignore[misc]
    "vendor-version": [{"number": lambda m, number=number: number} for number in (2, 3, 4)],  # type: ignore[misc]
    "gallery": [{"?": lambda m: "q=derived"}, {"?": lambda m: "q=nothing-like-it"}],
    "jobs": [{"?": lambda m: "status=failed"}, {"?": lambda m: "status=cancelled"}],
    "admin:search": [{"?": lambda m: "q=builders"}],
    "admin:story": [{"source_id": lambda m: m.jobs["succeeded"].pk}],
    "delivery": [
        {
            "kind": lambda m: "account",
            "delivery_id": lambda m: m.cast.developer.account_events.first().pk,
        }
    ],
    "model": [{"name": lambda m: "derived-0"}],
    "top-up": [{"top_up_id": lambda m: m.cast.developer.top_ups.filter(state="failed")[0].pk}],
}
# Where others would lead away, or sign out who opens it.
ONLY = {"account_confirm_email": ("visitor",)}
# Machinery of the admin site that is no page.
MACHINERY = ("admin:autocomplete", "admin:view_on_site", "admin:jsi18n")
# Pages that only exist in the middle of something; opened out of it they lead away.
IN_A_FLOW = {
    "account_reset_password_from_key": "needs the key of a mail",
    "account_inactive": "leads on",
    "hijack:acquire": "a form on the console's page of a person",
    "hijack:release": "a button on the banner",
    "weights-upload-state": "while weights are uploaded",
    "mfa_authenticate": "in the middle of signing in",
    "account_confirm_login_code": "in the middle of signing in",
    "mfa_add_webauthn": "needs a device",
    "mfa_remove_webauthn": "needs a device",
    "mfa_edit_webauthn": "needs a device",
    "mfa_reauthenticate_webauthn": "needs a device",
}


@dataclass(frozen=True)
class Route:
    """One named route: its path as written in the URL conf, and its parameters."""

    name: str
    pattern: str
    parameters: tuple[str, ...]

    @property
    def audiences(self) -> tuple[str, ...]:
        """Who is asked for it, the one it is made for first."""
        if self.name in ONLY:
            return ONLY[self.name]
        if self.pattern.startswith("console/"):
            return ("sam",)
        if self.pattern.startswith("vendor/"):
            return ("alice",) if self.parameters else ("alice", "charlie")
        if self.pattern.startswith("dashboard/invitations/"):
            return ("charlie",)
        if self.pattern.startswith("dashboard/"):
            return ("bob",) if self.parameters else ("bob", "dora", "charlie")
        if self.pattern.startswith("accounts/"):
            return ("visitor", "bob", "charlie")
        return ("visitor", "bob")


@dataclass(frozen=True)
class Page:
    """A page at an address, for one audience."""

    name: str
    path: str
    audience: str

    def __str__(self) -> str:
        return f"{self.name} for {self.audience}"


def _walk(
    resolver: URLResolver, before: str = "", spaces: tuple[str, ...] = (), known: tuple = ()
) -> Iterator[Route]:
    for entry in resolver.url_patterns:
        written = before + str(entry.pattern).removeprefix("^")
        converters = getattr(entry.pattern, "converters", None) or {}
        groups = getattr(getattr(entry.pattern, "regex", None), "groupindex", {})
        parameters = (*known, *dict.fromkeys([*converters, *groups]))
        if isinstance(entry, URLPattern):
            if entry.name:
                yield Route(":".join((*spaces, entry.name)), written, parameters)
        else:
            inner = (*spaces, entry.namespace) if entry.namespace else spaces
            yield from _walk(entry, written, inner, parameters)


@cache
def routes() -> tuple[Route, ...]:
    """Every named route that may be a page."""
    found = {route.name: route for route in _walk(get_resolver())}
    return tuple(
        row
        for row in found.values()
        if not row.pattern.startswith(NO_PAGES) and row.name not in MACHINERY
    )


class NoExample(Exception):
    """A parameter of a route is not known here."""


def address(route: Route, market: Market, more: dict[str, Value] | None = None) -> str:
    """Return where the example of a route is. Raises NoExample naming what lacks."""
    own = EXAMPLES.get(route.name, {}) | (more or {})
    values = {}
    if "/listing/" in route.pattern:
        own = {"name": lambda m: m.wizard} | own
    for name in route.parameters:
        if name == "object_id":
            values[name] = _first_row(route)
        elif (value := own.get(name) or BY_PARAMETER.get(name)) is not None:
            values[name] = value(market)
        else:
            raise NoExample(f"add an example for {route.name}: what is {name}?")
    query = f"?{own['?'](market)}" if "?" in own else ""
    return reverse(route.name, kwargs=values) + query


def _first_row(route: Route) -> Any:
    """Return the key of a row for an admin page; its name says of which table."""
    label, _, rest = route.name.removeprefix("admin:").partition("_")
    model = apps.get_model(label, rest.rpartition("_")[0])
    row = model._default_manager.first()
    if row is None:
        raise NoExample(f"add an example for {route.name}: the market has no {model.__name__}")
    return row.pk


def takes_no_get(route: Route) -> bool:
    """Tell whether a route only takes POST, whatever its parameters are."""
    samples: dict[str, Any] = {}
    for name in route.parameters:
        samples[name] = _SAMPLES.get(name, "x")
    for guess in ("00000000-0000-0000-0000-000000000000", 1, "x"):
        try:
            path = reverse(route.name, kwargs=dict.fromkeys(route.parameters, guess) | samples)
        except NoReverseMatch:
            samples = {}
            continue
        return _client_of_anyone().get(path).status_code == 405
    return False


_SAMPLES: dict[str, Any] = {}


def _client_of_anyone() -> Client:
    user = User.objects.get(email="bob@example.org")
    return signed_in(user)


def user_of(market: Market, audience: str) -> User | AnonymousUser:
    """Return the person of the cast, or the visitor."""
    if audience == "visitor":
        return AnonymousUser()
    return market.dora if audience == "dora" else getattr(market.cast, audience)


def signed_in(user: User | AnonymousUser) -> Client:
    """Return a client whose session says that its user gave the password and a code just now."""
    client = Client()
    if isinstance(user, User) and user.is_staff:
        staff_sign_in(client, user)
    elif isinstance(user, User):
        client.force_login(user)
        session, moment = client.session, time.time()
        session["account_authentication_methods"] = [
            {"method": "password", "at": moment, "email": user.email, "reauthenticated": True},
            {"method": "mfa", "type": "totp", "at": moment, "reauthenticated": True},
        ]
        session.save()
    return client


class Site:
    """Clients of all audiences, and the pages that they were shown."""

    def __init__(self, market: Market) -> None:
        self.market = market
        names = ("visitor", "alice", "bob", "charlie", "dora", "sam")
        self.shown: dict[Page, HttpResponse] = {}
        self.clients = {name: signed_in(user_of(market, name)) for name in names}
        org = str(market.cast.developer.pk)  # Bob has many homes
        for name in ("bob", "dora"):
            session = self.clients[name].session
            session["organisation_id"] = org
            session.save()

    def get(self, page: Page) -> Any:
        """Open a page."""
        return self.clients[page.audience].get(page.path)

    def find(self) -> tuple[list[Page], list[str]]:
        """Return the pages that their audiences are shown, and what is wrong with the table."""
        pages: list[Page] = []
        wrong: list[str] = []
        for route in routes():
            try:
                path = address(route, self.market)
            except NoExample as error:
                if not _is_in_a_flow(route) and not takes_no_get(route):
                    wrong.append(str(error))
                continue
            paths = [
                path,
                *(address(route, self.market, more) for more in ALSO.get(route.name, [])),
            ]
            seen = [
                Page(route.name, p, who) for p in dict.fromkeys(paths) for who in route.audiences
            ]
            answers = [(page, self.get(page)) for page in seen]
            self.shown |= {page: answer for page, answer in answers if is_page(answer)}
            shown = [page for page, answer in answers if is_page(answer)]
            pages += shown
            if not shown and not any(explained(route, answer) for _, answer in answers):
                codes = {page.audience: answer.status_code for page, answer in answers}
                wrong.append(f"the example of {route.name}, {path}, answers {codes}")
        return pages, wrong


def is_page(answer: HttpResponseBase) -> bool:
    """Tell whether an answer is a whole HTML page."""
    if answer.status_code != 200 or "text/html" not in answer.headers.get("Content-Type", ""):
        return False
    return not answer.streaming and answer.content.lstrip()[:9].lower() == b"<!doctype"


def _is_in_a_flow(route: Route) -> bool:
    return route.name in IN_A_FLOW


def explained(route: Route, answer: HttpResponseBase) -> bool:
    """Tell whether it is right that a route shows no page: it is none, or is in a flow."""
    if answer.status_code in (405, 301) or _is_in_a_flow(route):
        return True
    if answer.status_code == 302:
        return "/accounts/login/" not in answer.headers["Location"]
    # A file, a fragment; and the console forbids to add or delete what services make.
    is_forbidden = answer.status_code == 403 and route.name.endswith(("_add", "_delete"))
    return answer.status_code == 200 or is_forbidden
