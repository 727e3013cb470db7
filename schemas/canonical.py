"""Canonical JSON and the hashes that name everything in the store."""

import hashlib
import json
from typing import Any


def canonical_json(value: Any) -> bytes:
    """Encode ``value`` so that equal values give equal bytes.

    Keys are sorted, separators carry no spaces, text is UTF-8, and NaN or infinity is refused.

    Raises:
        ValueError: for NaN or infinity.
        TypeError: for a value that JSON cannot hold.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def sha256_hex(data: bytes) -> str:
    """SHA-256 of ``data`` as 64 lower-case hex digits."""
    return hashlib.sha256(data).hexdigest()


def fingerprint(value: Any) -> str:
    """SHA-256 of the canonical JSON of ``value`` as 64 lower-case hex digits."""
    return sha256_hex(canonical_json(value))
