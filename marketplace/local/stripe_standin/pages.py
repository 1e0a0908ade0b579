"""Plain pages with buttons, where Stripe has a page of its own. Each says what it is."""

from __future__ import annotations

from html import escape

from marketplace.local.stripe_standin.work import Body

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title} · Stripe stand-in</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 32rem; margin: 0 auto; padding: 1.5rem; }}
strong {{ background: #ffd43b; color: #111; padding: 0 .3em; }}
button {{ font: inherit; padding: .6rem 1rem; margin: .25rem 0; width: 100%; }}
</style></head><body>
<p><strong>STAND-IN</strong> This is not Stripe. No money moves.</p>
<h1>{title}</h1>
{body}
</body></html>
"""
_CARDS: tuple[tuple[str, str], ...] = (
    ("pm_card_visa", "with a card that works (•••• 4242)"),
    ("pm_card_chargeDeclined", "with a card that is declined (•••• 0002)"),
    ("pm_card_chargeDeclinedInsufficientFunds", "with an empty card (•••• 9995)"),
    ("pm_card_createDispute", "with a card whose owner disputes it (•••• 0259)"),
    ("pm_usBankAccount", "from a bank account: it takes days (•••• 6789)"),
)


def _page(title: str, body: str) -> str:
    return _PAGE.format(title=escape(title), body=body)


def _button(value: str, label: str) -> str:
    return f'<button name="card" value="{escape(value)}">{escape(label)}</button>'


def _form(buttons: str) -> str:
    return f'<form method="post">{buttons}</form>'


def _money(cents: int, currency: str) -> str:
    return f"{cents / 100:.2f} {currency.upper()}"


def checkout(session: Body) -> str:
    """Return the page of a Checkout session."""
    if session["status"] != "open":
        return _page("Checkout", f"<p>This session is {escape(session['status'])}.</p>")
    if session["mode"] == "setup":
        cards: tuple[tuple[str, str], ...] = (
            ("pm_card_visa", "that works (•••• 4242)"),
            ("pm_card_chargeCustomerFail", "whose charges fail later (•••• 0341)"),
            ("pm_card_authenticationRequired", "that wants its owner there (•••• 3184)"),
            ("pm_card_chargeDeclined", "that is declined (•••• 0002)"),
        )
        title, verb = "Save a card", "Save a card"
    else:
        cards, verb = _CARDS, "Pay"
        title = f"Pay {_money(session['amount_total'], session['currency'])}"
    buttons = "".join(_button(name, f"{verb} {label}") for name, label in cards)
    return _page(title, _form(buttons + _button("cancel", "Go back")))


def invoice(row: Body) -> str:
    """Return the page of a finalized invoice."""
    amount = _money(row["amount_remaining"], row["currency"])
    title = f"Invoice {row['number'] or row['id']}"
    if row["status"] != "open":
        return _page(title, f"<p>It is {escape(row['status'])}.</p>")
    buttons = "".join(_button(name, f"Pay {label}") for name, label in _CARDS)
    return _page(title, f"<p>{amount} to pay.</p>{_form(buttons)}")


def onboard(link: Body, now: int) -> str:
    """Return the page on which a vendor would tell Stripe who it is."""
    account = escape(link["account"])
    if link["used"] or link["expires_at"] <= now:
        back = f'<a href="{escape(link["refresh_url"])}">Ask for a new one</a>'
        return _page("Onboarding", f"<p>This link was used or is too old. {back}.</p>")
    label = "Pretend that Stripe has all it needs"
    return _page("Onboarding", f"<p>Account {account}.</p>{_form(f'<button>{label}</button>')}")


def refused(message: str) -> str:
    """Return the page of a refusal."""
    return _page("That did not work", f"<p>{escape(message)}</p>")
