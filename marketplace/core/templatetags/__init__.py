"""Template tags for amounts."""
