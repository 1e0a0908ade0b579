"""What staff can switch while the market runs, on django-waffle: brakes, and new things."""

from dataclasses import dataclass

import waffle
from django.http import HttpRequest

SIGN_UPS = "sign-ups"
CALLS = "calls"
LISTINGS = "listings"
PREVIEWS = "playground-previews"


@dataclass(frozen=True, slots=True)
class Known:
    """A switch: what it does, and how it stands until staff touch it.

    With `for_some` it can be on for staff alone, or for a part of the signed-in people.
    """

    name: str
    what: str
    off_means: str
    default: bool = True
    for_some: bool = False


KNOWN = {
    flag.name: flag
    for flag in (
        Known(SIGN_UPS, "New people can sign up", "The sign-up page says that it is closed."),
        Known(CALLS, "The market takes calls", "Every new call is refused; running jobs end well."),
        Known(LISTINGS, "Vendors can submit versions", "Drafts stay drafts."),
        Known(
            PREVIEWS, "The playground shows frames while a job runs", "Only progress is shown.",
            for_some=True,
        ),
    )
}  # fmt: skip


def is_on(name: str, request: HttpRequest | None = None) -> bool:
    """Tell whether a switch is on, for whom `request` is if it may differ.

    Read from the process's own memory, so a change takes up to FLAG_CACHE_S to be seen.
    """
    known = KNOWN[name]
    if not known.for_some:
        switch = waffle.get_waffle_switch_model().get(name)
        return known.default if switch.pk is None else bool(switch.active)
    flag = waffle.get_waffle_flag_model().get(name)
    if flag.pk is None:
        return known.default
    if request is None:
        return bool(flag.everyone)
    return bool(flag.is_active(request))
