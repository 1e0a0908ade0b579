"""Measures the operations on a device, beside what else does the same, and tunes their launches."""
