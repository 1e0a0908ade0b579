"""Types of command-line options that several commands have."""

import argparse


def at_least_one(text: str) -> int:
    """Read a whole number from 1 up. Raises ArgumentTypeError, which argparse says by option."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"a whole number from 1 up, not {text}")
    return number
