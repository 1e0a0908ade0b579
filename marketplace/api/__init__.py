"""The HTTP edge for programs: authentication, limits, errors and API v1."""
