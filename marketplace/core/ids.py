"""Identifiers: time-ordered for rows, derived for everything that may be sent twice."""

import os
import time
import uuid

_NAMESPACE = uuid.UUID("6d657263-6174-4f00-8000-000000000001")


def new_id() -> uuid.UUID:
    """Return a UUIDv7 (RFC 9562, section 5.7): sorts by creation time, so indexes stay dense."""
    milliseconds = time.time_ns() // 1_000_000
    value = milliseconds << 80 | int.from_bytes(os.urandom(10), "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return uuid.UUID(int=value)


def derived_id(*parts: object) -> uuid.UUID:
    """Return the same UUIDv5 for the same parts, so that a repeated emission is recognised."""
    return uuid.uuid5(_NAMESPACE, "\x1f".join(str(part) for part in parts))


def parse_id(text: object) -> uuid.UUID:
    """Return the id that a caller wrote, or the nil id, which nothing has, if it is not one."""
    try:
        return uuid.UUID(str(text))
    except ValueError:
        return uuid.UUID(int=0)


_LARGEST = 2**63 - 1  # of PostgreSQL's bigint: a larger one is an error there, not "no such row"


def parse_number(text: str) -> int | None:
    """Return the row number that a caller wrote, or None if no row can have it."""
    if not (text.isascii() and text.isdecimal()) or len(text) > 19:
        return None
    return number if (number := int(text)) <= _LARGEST else None
