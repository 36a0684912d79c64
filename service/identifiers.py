"""Ids that sort by time, and the secrets that open one case for a while.

An id is `case_` and 26 characters of Crockford's base32: 48 bits of milliseconds, then 80 random bits (the layout of
UUID version 7, RFC 9562, without its version bits), so ids made later sort later and cannot be guessed.
"""

from __future__ import annotations

import base64
import hmac
import re
import secrets
import time
from datetime import UTC, datetime
from pathlib import Path

from service.key_files import made_once

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
TIME_ORDERED = r"[0-9a-hjkmnp-tv-z]{26}"
"""What follows the prefix of an id, as a regular expression."""
SERVICE_KEY_BYTES = 32
_CLIENT = "secret_"
_SECRET = re.compile(rf"{_CLIENT}([0-9a-f]{{1,9}})_([A-Za-z0-9_-]{{43}})")
_REST = re.compile(TIME_ORDERED)


def time_ordered(prefix: str) -> str:
    """A new id: `prefix`, an underscore, 26 characters."""
    value = (time.time_ns() // 1_000_000) << 80 | secrets.randbits(80)
    return f"{prefix}_" + "".join(_ALPHABET[(value >> shift) & 31] for shift in range(125, -1, -5))


def is_id(prefix: str, text: str) -> bool:
    """Whether `text` is such an id; whatever else a path holds is not asked for in a database."""
    return text.startswith(f"{prefix}_") and _REST.fullmatch(text, len(prefix) + 1) is not None


def is_case_id(text: str) -> bool:
    """Whether `text` is the id of a case; only such text may become part of a path."""
    return is_id("case", text)


def is_client_secret(text: str) -> bool:
    """Whether `text` says of itself that it is the client secret of a case."""
    return text.startswith(_CLIENT)


class Secrets:
    """Client secrets: `secret_<seconds since 1970, hexadecimal>_<HMAC-SHA-256>` of the case id and the end of its time,
    under the service's key. Nothing of them is kept: what opens a case, and until when, is computed.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key

    def of(self, case_id: str, until: datetime) -> str:
        """The client secret that opens that case until then (whole seconds)."""
        end = f"{int(until.timestamp()):x}"
        return f"{_CLIENT}{end}_{self._seal(case_id, end)}"

    def until(self, secret: str, case_id: str) -> datetime | None:
        """Until when `secret` opens that case, which may be over; None when it is not one of this case at all.

        Compared in constant time.
        """
        parts = _SECRET.fullmatch(secret)
        if parts is None or not hmac.compare_digest(parts[2], self._seal(case_id, parts[1])):
            return None
        return datetime.fromtimestamp(int(parts[1], 16), UTC)

    def digest(self, text: str) -> str:
        """HMAC-SHA-256 of a text, hexadecimal: equal texts are told, and nobody without the key can guess one."""
        return hmac.digest(self._key, text.encode("utf-8", "surrogatepass"), "sha256").hex()

    def _seal(self, case_id: str, end: str) -> str:
        digest = hmac.digest(self._key, f"client secret of {case_id} until {end}".encode(), "sha256")
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def service_key(folder: Path) -> bytes:
    """The service's 32-byte key: read from `folder`, or made there once, readable by its owner only."""
    return made_once(folder / "service.key", secrets.token_bytes(SERVICE_KEY_BYTES))
