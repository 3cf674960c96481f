"""Seeds that follow from other values, so that nothing depends on who draws first."""

from __future__ import annotations

import hashlib
import json


def derive_seed(*parts: int | str) -> int:
    """A 32-bit seed (every generator takes it) that is a function of ``parts`` alone."""
    digest = hashlib.sha256(json.dumps(parts).encode()).digest()
    return int.from_bytes(digest[:4], "big")
