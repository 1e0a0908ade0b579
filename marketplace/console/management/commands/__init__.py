"""Management commands of the staff edge."""
