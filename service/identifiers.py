"""Ids that sort by time, and the secret that opens one case.

An id is `case_` and 26 characters of Crockford's base32: 48 bits of milliseconds, then 80 random bits (the layout of
UUID version 7, RFC 9562, without its version bits), so ids made later sort later and cannot be guessed.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
import time
from pathlib import Path

from service.key_files import made_once

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
KEY_BYTES = 32
_CASE_ID = re.compile(r"case_[0-9a-hjkmnp-tv-z]{26}\Z")


def time_ordered(prefix: str) -> str:
    """A new id: `prefix`, an underscore, 26 characters."""
    value = (time.time_ns() // 1_000_000) << 80 | secrets.randbits(80)
    return f"{prefix}_" + "".join(_ALPHABET[(value >> shift) & 31] for shift in range(125, -1, -5))


def is_case_id(text: str) -> bool:
    """Whether `text` is the id of a case; only such text may become part of a path."""
    return _CASE_ID.match(text) is not None


class Secrets:
    """Client secrets: an HMAC-SHA-256 of the case id under the service's key.

    The store keeps only a hash. A request that is repeated under its Idempotency-Key gets the same secret again
    because it is computed, not kept.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key

    def of(self, case_id: str) -> str:
        """The client secret of that case."""
        digest = hmac.digest(self._key, case_id.encode(), "sha256")
        return "secret_" + base64.urlsafe_b64encode(digest).rstrip(b"=").decode()

    def digest(self, text: str) -> str:
        """HMAC-SHA-256 of a text, hexadecimal: equal texts are told, and nobody without the key can guess one."""
        return hmac.digest(self._key, text.encode("utf-8", "surrogatepass"), "sha256").hex()


def hashed(secret: str) -> str:
    """SHA-256 of a secret, hexadecimal. The secret has 256 random bits, so a slow hash would add nothing."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def opens(secret: str, secret_hash: str) -> bool:
    """Whether `secret` is the one of that hash, in constant time."""
    return hmac.compare_digest(hashed(secret), secret_hash)


def service_key(folder: Path) -> bytes:
    """The service's 32-byte key: read from `folder`, or made there once, readable by its owner only."""
    return made_once(folder / "service.key", secrets.token_bytes(KEY_BYTES))
