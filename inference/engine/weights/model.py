"""Names a model as the control plane registered it: an address, a digest and a family."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

NOOP_DIGEST = "sha256:" + hashlib.sha256(b"").hexdigest()
"""The digest of no files, which is what `noop:` consists of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """Which weights to load and how. `digest` None skips the check: only for one's own files."""

    uri: str
    digest: str | None
    family: str
