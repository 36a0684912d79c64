"""The page on which a person films card and face: still files, and the link that opens it for one case.

The link carries the case's client secret in its fragment, which browsers send to nobody: neither a request nor a log
nor a referrer holds it. All that the page does afterwards it does with that secret, through the same API as everybody
(decision 28).
"""

from __future__ import annotations

import mimetypes
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from fastapi import Request

from service.settings.hosts import is_loopback

FOLDER = Path(__file__).parent / "static"
PAGE = "index.html"
HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data: blob:; "
        "media-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Cross-Origin-Opener-Policy": "same-origin",
}
"""Nothing runs on the page but its own files, it asks nobody but this service, and nobody frames it."""


class StillFile(NamedTuple):
    """A file of the page with its media type."""

    content: bytes
    media_type: str


def _read() -> dict[str, StillFile]:
    kinds = {".js": "text/javascript"}  # what a system's own table says of .js differs
    return {
        path.name: StillFile(path.read_bytes(), kinds.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "")
        for path in sorted(FOLDER.iterdir())
    }


FILES: Mapping[str, StillFile] = _read()
"""The files of the page by name; `PAGE` is the page itself."""


def capture_url(request: Request, public_origin: str, case_id: str, secret: str) -> str | None:
    """The link to the page for that case; None where it is not known how a person's device reaches this service.

    public_origin: from the settings; empty: as the request was sent, if that was to this machine. What any other
    request says of its host is not believed: it would choose where a secret goes.
    """
    origin = public_origin
    if not origin and is_loopback(request.url.hostname or ""):
        origin = f"{request.url.scheme}://{request.url.netloc}"
    return f"{origin}/capture/#{case_id}/{secret}" if origin else None
