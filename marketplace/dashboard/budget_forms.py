"""Forms of budgets, projects and alerts."""

from decimal import Decimal

from django import forms


def _usd(label: str, help_text: str) -> forms.DecimalField:
    return forms.DecimalField(
        required=False,
        min_value=0,
        max_value=1_000_000_000,
        decimal_places=9,
        label=label,
        help_text=help_text,
    )


class AmountForm(forms.Form):
    """An amount in dollars, or nothing for none."""

    amount_usd = _usd("In USD", "Empty: none.")

    def nano(self) -> int | None:
        """Return the amount in nano-USD."""
        amount: Decimal | None = self.cleaned_data["amount_usd"]
        return None if amount is None else int(amount * 10**9)


class BudgetForm(AmountForm):
    """The monthly budget of the whole organisation."""

    amount_usd = _usd("Monthly budget in USD", "For all calls together. Empty: no limit.")


class AlertForm(AmountForm):
    """Below which balance to tell."""

    amount_usd = _usd("Tell below, in USD", "Money held for running jobs still counts as there.")


class ProjectForm(AmountForm):
    """A project."""

    name = forms.CharField(max_length=80)
    amount_usd = _usd("Monthly budget in USD", "Empty: no limit of its own.")
    field_order = ("name", "amount_usd")
