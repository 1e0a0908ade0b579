"""Staff look at the market as a customer sees it: never as staff, never to change anything."""

from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.shortcuts import redirect
from hijack import signals
from hijack.views import AcquireUserView

from marketplace.accounts.models import User
from marketplace.accounts.second_factor import has_second_factor
from marketplace.accounts.selectors import organisations_of
from marketplace.console.access import record, tell
from marketplace.core.impersonation import ENDED_WHY, HISTORY, bind

_WHY = "acting_why"


def may_act_as(*, hijacker: Any, hijacked: Any) -> bool:
    """Tell whether one may act as the other: with the permission, and never as staff."""
    return bool(
        hijacked is not None
        and hijacked.is_active
        and not (hijacked.is_staff or hijacked.is_superuser)
        and hijacker.is_active
        and hijacker.is_staff
        and hijacker.has_perm("console.act_as")
    )


class ReasonForm(forms.Form):
    """Why: it is written in the audit."""

    why = forms.CharField(max_length=500, min_length=3)


class ActAs(AcquireUserView):  # type: ignore[misc]
    """django-hijack's own view, for sessions with a second factor, with a reason."""

    raise_exception = True

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Take forms only."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        answer: HttpResponse = super().dispatch(request, *args, **kwargs)
        return answer

    def test_func(self) -> bool:
        """Ask for the permission, for the second factor, and that nobody is acted as already."""
        request = self.request
        allowed = bool(super().test_func()) and has_second_factor(request)
        return allowed and not request.session.get(HISTORY)

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Begin, if a reason is given."""
        form = ReasonForm(request.POST)
        if not form.is_valid():
            messages.error(request, "Say why you need to look as somebody else.")
            return redirect("admin:person", request.POST["user_pk"])
        request.META[_WHY] = form.cleaned_data["why"]
        answer: HttpResponse = super().post(request, *args, **kwargs)
        return answer


def _began(request: HttpRequest, hijacker: User, hijacked: User, **_: Any) -> None:
    bind(request, hijacker)
    record(request, "acting.began", hijacked, note=request.META.get(_WHY, ""), by=hijacker)
    for org in organisations_of(hijacked):
        tell(org, "acting.began", hijacked)


def _ended(request: HttpRequest, hijacker: User, hijacked: User, **_: Any) -> None:
    why = request.META.get(ENDED_WHY, "")
    record(request, "acting.ended", hijacked, note=why, by=hijacker)
    for org in organisations_of(hijacked):
        tell(org, "acting.ended", hijacked)


def watch() -> None:
    """Write the beginning and the end of each into the audit."""
    signals.hijack_started.connect(_began, dispatch_uid="console.acting.began")
    signals.hijack_ended.connect(_ended, dispatch_uid="console.acting.ended")
