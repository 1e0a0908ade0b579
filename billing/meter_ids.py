"""The two meters that Stripe counts usage with, each made once."""

from functools import lru_cache

from billing.models import Funding
from billing.stripe.gateway import StripeGateway

EVENT_NAMES = {
    Funding.PREPAID: "mercato_prepaid_spend_micro_usd",
    Funding.POSTPAID: "mercato_spend_micro_usd",
}
"""Two meters: only the second has a price, since prepaid usage was paid at the top-up."""
_DISPLAY = {
    Funding.PREPAID: "Usage paid from prepaid credit (micro-USD)",
    Funding.POSTPAID: "Usage to be invoiced (micro-USD)",
}


@lru_cache(maxsize=4)
def meters_ensure(gateway: StripeGateway) -> dict[Funding, str]:
    """Return the id at Stripe of each funding's meter, made if there is none."""
    return {
        funding: gateway.meter_ensure(name, _DISPLAY[funding])
        for funding, name in EVENT_NAMES.items()
    }


def meter_id(gateway: StripeGateway, funding: Funding) -> str:
    """Return the id at Stripe of a funding's meter, made if there is none."""
    return meters_ensure(gateway)[funding]
