"""What tests of invoices share: charges at any time, without the jobs behind them."""

import uuid
from datetime import UTC, date, datetime

from billing import services
from billing.rating import Rating
from billing.split import Share

OCTOBER = date(2026, 10, 1)
MID_OCTOBER = datetime(2026, 10, 15, 12, tzinfo=UTC)
PRICE = uuid.UUID(int=7)


def charge(
    org, vendor, nano, *, at=MID_OCTOBER, model_ref="atelier/sketch", version=1, quantity=1
) -> uuid.UUID:
    """Charge `nano` nano-USD to an organisation, as if a job had ended `at` that time."""
    source = uuid.uuid4()
    services.hold_reserve(source_id=source, org_id=org.pk, amount_nano=nano)
    assert services.charge_settle(
        source_id=source,
        vendor_id=vendor.pk,
        version_id=uuid.UUID(int=version),
        price_id=PRICE,
        rating=Rating(nano, ()),
        shares=[Share(str(vendor.pk), 8000, str(uuid.UUID(int=version)))],
        occurred_at=at,
        model_ref=model_ref,
        unit="image",
        quantity=quantity,
    )
    return source


def at(monkeypatch, moment: datetime) -> None:
    """Move the clock of everything that invoices use."""
    from billing import meters
    from billing.invoicing import close, collect, follow, months, payment

    for module in (close, collect, follow, months, payment, meters):
        monkeypatch.setattr(module, "now", lambda: moment)
