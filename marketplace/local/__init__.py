"""Everything one machine needs to run the whole market: services, processes, the demo."""
