"""The form of secrets we hand out: prefix, random part, checksum; only digests are stored.

`mk_` + 32 base-62 characters (190 bits) + 6 characters of CRC-32 of what precedes them. The
checksum tells a mistyped key from a revoked one without asking the database.
"""

import hashlib
import hmac
import json
import secrets
import string
import zlib

from django.conf import settings

_ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
KEY_PREFIX = "mk_"
_RANDOM, _CHECK = 32, 6
VISIBLE = len(KEY_PREFIX) + 6


def _checksum(text: str) -> str:
    value, digits = zlib.crc32(text.encode()), ""
    for _ in range(_CHECK):
        value, digit = divmod(value, 62)
        digits = _ALPHABET[digit] + digits
    return digits


def new_token(prefix: str = KEY_PREFIX) -> str:
    """Return a fresh secret."""
    return with_checksum(prefix + "".join(secrets.choice(_ALPHABET) for _ in range(_RANDOM)))


def repeatable_bytes(*parts: object) -> bytes:
    """Return 32 bytes that only this market can make of `parts`, the same ones each time."""
    key = hashlib.sha256(b"mercato.rotations:" + settings.SECRET_KEY.encode()).digest()
    return hmac.new(key, json.dumps([str(part) for part in parts]).encode(), "sha256").digest()


def repeatable_token(*parts: object) -> str:
    """Return the secret that `parts` name: whoever asks for the same again gets the same."""
    value, body = int.from_bytes(repeatable_bytes(*parts)), KEY_PREFIX
    for _ in range(_RANDOM):
        value, digit = divmod(value, len(_ALPHABET))
        body += _ALPHABET[digit]
    return with_checksum(body)


def with_checksum(body: str) -> str:
    """Return a token of which `body` is the prefix and the random part."""
    return body + _checksum(body)


def is_well_formed(token: str, prefix: str = KEY_PREFIX) -> bool:
    """Tell whether the token has our form and its checksum fits (no typo)."""
    if not token.isascii() or len(token) != len(prefix) + _RANDOM + _CHECK:
        return False
    return token.startswith(prefix) and _checksum(token[:-_CHECK]) == token[-_CHECK:]


def digest(token: str) -> str:
    """Return the keyed digest that is stored; fast, for the secret has 190 bits of its own."""
    key = hashlib.sha256(b"mercato.tokens:" + settings.SECRET_KEY.encode()).digest()
    return hmac.new(key, token.encode(), hashlib.sha256).hexdigest()
