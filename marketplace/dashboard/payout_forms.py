"""Forms of the pages about payouts."""

from django import forms


class MinimumForm(forms.Form):
    """From which amount on a vendor is paid out."""

    minimum = forms.DecimalField(
        max_digits=9,
        decimal_places=2,
        label="Minimum payout in USD",
        help_text="What is below it is carried on to the next statement.",
    )

    def cents(self) -> int:
        """Return the amount in cents."""
        return int(self.cleaned_data["minimum"] * 100)


class PayoutCountryForm(forms.Form):
    """Where a vendor is at home, for its account at Stripe."""

    country = forms.CharField(
        max_length=2, help_text="Two letters (ISO 3166), such as FR. It cannot be changed later."
    )
