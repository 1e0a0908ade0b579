"""App configuration."""

from django.apps import AppConfig


class SimulationConfig(AppConfig):
    """Months of traffic through the real code, with everything that can go wrong."""

    name = "marketplace.simulation"
    label = "simulation"
