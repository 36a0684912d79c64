"""Client secrets: what opens one case for a while."""

from __future__ import annotations

import base64
import hmac
import re
import secrets
from datetime import UTC, datetime
from pathlib import Path

from service.crypto.key_files import read_or_create

SERVICE_KEY_BYTES = 32


_CLIENT = "secret_"


_SECRET = re.compile(rf"{_CLIENT}([0-9a-f]{{1,9}})_([A-Za-z0-9_-]{{43}})")


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
    return read_or_create(folder / "service.key", secrets.token_bytes(SERVICE_KEY_BYTES))
