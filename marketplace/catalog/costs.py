"""What time on a device costs whoever runs the market, as staff have set it by hardware class."""

from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from django.conf import settings

_NANO = Decimal(10**9)
_MS_AN_HOUR = Decimal(3_600_000)


def hourly_usd(hardware_class: str) -> Decimal | None:
    """Return what an hour costs in USD, or None where nobody has set it."""
    try:
        return Decimal(settings.GPU_COST_USD_PER_HOUR[hardware_class])
    except (KeyError, InvalidOperation):
        return None


def cost_nano(engine_ms: int, hardware_class: str) -> int | None:
    """Return what that much time on a device costs in nano-USD, or None where it is not known."""
    hourly = hourly_usd(hardware_class)
    return None if hourly is None else int(hourly * _NANO * engine_ms / _MS_AN_HOUR)


@dataclass(frozen=True, slots=True)
class Margin:
    """A charge beside what it cost to make: all in nano-USD."""

    charge_nano: int
    cost_nano: int

    @property
    def left_nano(self) -> int:
        """Return what the cost leaves of the charge; below zero for a loss."""
        return self.charge_nano - self.cost_nano

    @property
    def percent(self) -> float | None:
        """Return that as a percentage of the charge, or None of a call that is free."""
        return 100 * self.left_nano / self.charge_nano if self.charge_nano else None
