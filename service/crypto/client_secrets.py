"""Client secrets: each gives access to one case for a limited time.

What a client secret allows is decided in `service.http.access`.
"""

from __future__ import annotations

import base64
import hmac
import re
import secrets
from datetime import UTC, datetime
from pathlib import Path

from service.crypto.key_files import read_or_create

SERVICE_KEY_BYTES = 32
_PREFIX = "secret_"
_SECRET = re.compile(rf"{_PREFIX}([0-9a-f]{{1,9}})_([A-Za-z0-9_-]{{43}})")


def is_client_secret(text: str) -> bool:
    """Whether a text has the prefix of client secrets. It may still be invalid."""
    return text.startswith(_PREFIX)


class Secrets:
    """Issues and checks client secrets with the key of the service.

    A secret is `secret_<expiry, hexadecimal seconds since 1970>_<HMAC-SHA-256 of case id and expiry>`. Secrets are not
    stored: whether one is valid is computed from it.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key

    def of(self, case_id: str, until: datetime) -> str:
        """The client secret of a case that is valid until a time (whole seconds)."""
        end = f"{int(until.timestamp()):x}"
        return f"{_PREFIX}{end}_{self._signature(case_id, end)}"

    def until(self, secret: str, case_id: str) -> datetime | None:
        """When a secret of that case expires, which may be in the past; None if it is not a secret of that case.

        Compares in constant time.
        """
        parts = _SECRET.fullmatch(secret)
        if parts is None or not hmac.compare_digest(parts[2], self._signature(case_id, parts[1])):
            return None
        return datetime.fromtimestamp(int(parts[1], 16), UTC)

    def digest(self, text: str) -> str:
        """HMAC-SHA-256 of a text, hexadecimal.

        Equal for equal texts; without the key, a text cannot be guessed from it.
        """
        return hmac.digest(self._key, text.encode("utf-8", "surrogatepass"), "sha256").hex()

    def _signature(self, case_id: str, end: str) -> str:
        digest = hmac.digest(self._key, f"client secret of {case_id} until {end}".encode(), "sha256")
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def service_key(folder: Path) -> bytes:
    """The 32-byte key of the service. Read from `folder`, or created there, readable only by its owner."""
    return read_or_create(folder / "service.key", secrets.token_bytes(SERVICE_KEY_BYTES))
