"""Views by audience: public, developer, vendor."""
