"""The headers of tus 1.0 (https://tus.io/protocols/resumable-upload): strict parsing of requests, and what answers
contain. Core, creation, creation-with-upload, termination, expiration, checksum. It does no I/O:
`service.uploads.resumable` receives the bytes.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import format_datetime
from functools import partial
from typing import Any

from service.errors import ChecksumError, TusRequestError, TusVersionError

VERSION = "1.0.0"
EXTENSIONS = "creation,creation-with-upload,termination,expiration,checksum"
BODY_TYPE = "application/offset+octet-stream"
CHECKSUMS: Mapping[str, Callable[[], Any]] = {
    "sha1": partial(hashlib.sha1, usedforsecurity=False),  # every server of the extension must know it
    "sha256": hashlib.sha256,
}
REQUEST_HEADERS = (
    "Tus-Resumable",
    "Upload-Length",
    "Upload-Metadata",
    "Upload-Offset",
    "Upload-Checksum",
    "X-HTTP-Method-Override",
)
"""The tus headers of requests."""
RESPONSE_HEADERS = (
    "Tus-Resumable",
    "Tus-Version",
    "Tus-Extension",
    "Tus-Max-Size",
    "Tus-Checksum-Algorithm",
    "Upload-Length",
    "Upload-Offset",
    "Upload-Expires",
)
"""The tus headers of answers."""
_NUMBER = re.compile(r"[0-9]{1,18}")
_KEY = re.compile(r"[!-+\--~]{1,64}")
_MOST_METADATA = 4096
Headers = Mapping[str, str]


def require_version(headers: Headers) -> None:
    """Raises TusVersionError if the request does not name tus 1.0.0."""
    if headers.get("tus-resumable") != VERSION:
        raise TusVersionError(f"Set the header Tus-Resumable to {VERSION}.")


def length_of(headers: Headers) -> int:
    """The length in bytes of the upload to be created. Raises TusRequestError."""
    if "upload-concat" in headers or "upload-defer-length" in headers:
        raise TusRequestError(f"This extension is not supported. Supported tus extensions: {EXTENSIONS}.")
    return _number(headers, "Upload-Length")


def offset_of(headers: Headers) -> int:
    """The position in the upload of the body's first byte. Raises TusRequestError."""
    return _number(headers, "Upload-Offset")


def content_length_of(headers: Headers) -> int | None:
    """The length of the body in bytes; None if the request does not say it."""
    return int(given) if _NUMBER.fullmatch(given := headers.get("content-length", "")) else None


def media_type_of(headers: Headers) -> str:
    """The media type named by `filetype` in the metadata, without parameters; empty if there is none.

    Everything else in the metadata, such as a file name, is validated and discarded. Raises TusRequestError.
    """
    text = headers.get("upload-metadata", "")
    if len(text) > _MOST_METADATA:
        raise TusRequestError(f"Upload-Metadata is longer than {_MOST_METADATA} characters. Send less metadata.")
    found: dict[str, bytes] = {}
    for pair in text.split(",") if text.strip() else ():
        key, _, encoded = pair.strip().partition(" ")
        if not _KEY.fullmatch(key) or key in found:
            raise TusRequestError(
                "Upload-Metadata must be a list of `key base64-value` pairs, separated by commas, with each key once."
            )
        try:
            found[key] = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            raise TusRequestError("A value in Upload-Metadata is not base64. Encode it.") from None
    return found.get("filetype", b"").decode("ascii", "replace").split(";")[0].strip().lower()


@dataclass(frozen=True)
class Checksum:
    """The expected checksum of a request's bytes, and the digest computed so far."""

    expected: bytes
    _digest: Any = field(repr=False)

    @classmethod
    def of(cls, headers: Headers) -> Checksum | None:
        """The checksum sent with the request; None if there is none. Raises TusRequestError."""
        if (text := headers.get("upload-checksum")) is None:
            return None
        algorithm, _, encoded = text.strip().partition(" ")
        if algorithm not in CHECKSUMS:
            raise TusRequestError(f"Upload-Checksum must use one of {', '.join(CHECKSUMS)}.")
        digest = CHECKSUMS[algorithm]()
        try:
            expected = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            expected = b""
        if len(expected) != digest.digest_size:
            raise TusRequestError("The value of Upload-Checksum is not a digest of this algorithm in base64.")
        return cls(expected, digest)

    def update(self, content: bytes) -> None:
        """Add bytes of the request."""
        self._digest.update(content)

    def require(self) -> None:
        """Raises ChecksumError if the bytes do not match the expected checksum."""
        if not hmac.compare_digest(self._digest.digest(), self.expected):
            raise ChecksumError("The checksum does not match these bytes, so they were discarded. Send them again.")


def discovery(max_size: int) -> dict[str, str]:
    """The headers that describe this server's abilities. max_size: largest upload in bytes."""
    return {
        "Tus-Version": VERSION,
        "Tus-Extension": EXTENSIONS,
        "Tus-Max-Size": str(max_size),
        "Tus-Checksum-Algorithm": ",".join(CHECKSUMS),
    }


def http_date(moment: datetime) -> str:
    """A UTC time as an HTTP date (RFC 9110)."""
    return format_datetime(moment, usegmt=True)


def _number(headers: Headers, name: str) -> int:
    if not _NUMBER.fullmatch(given := headers.get(name.lower(), "")):
        raise TusRequestError(f"Set {name} to a number of bytes.")
    return int(given)
