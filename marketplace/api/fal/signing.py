"""The keys with which webhooks in fal's form are signed: Ed25519, found by our JWKS address.

The key follows from SECRET_KEY, so there is none to keep. Those of SECRET_KEY_FALLBACKS stay
published, so that what was signed before a rotation can still be checked.
"""

import base64
import hashlib
import json

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from django.conf import settings

_INFO = b"mercato.fal.webhooks.ed25519"


def _key_of(secret: str) -> Ed25519PrivateKey:
    seed = HKDF(algorithm=SHA256(), length=32, salt=None, info=_INFO).derive(secret.encode())
    return Ed25519PrivateKey.from_private_bytes(seed)


def sign(message: bytes) -> bytes:
    """Return the signature (64 bytes) of `message` by the key of today."""
    return _key_of(settings.SECRET_KEY).sign(message)


def _text(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def jwks() -> dict[str, list[dict[str, str]]]:
    """Return the public keys (RFC 8037), today's first, each named by its thumbprint (RFC 7638)."""
    keys = []
    for secret in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS):
        public = _key_of(secret).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        key = {"crv": "Ed25519", "kty": "OKP", "x": _text(public)}
        exact = json.dumps(key, separators=(",", ":"), sort_keys=True).encode()
        kid = _text(hashlib.sha256(exact).digest())
        keys.append({**key, "kid": kid, "use": "sig", "alg": "EdDSA"})
    return {"keys": keys}
