"""The page on which a person records ID card and face: its static files, and the link that opens it for one case.

The link contains the case's client secret in its fragment. Browsers do not send fragments, so the secret appears in no
request, log or referrer. With it the page uses the same API as every other client (decision 28).
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
"""Only the page's own files run, it connects only to this service, and no site can frame it."""


class StaticFile(NamedTuple):
    """A file of the page with its media type."""

    content: bytes
    media_type: str


def _read() -> dict[str, StaticFile]:
    kinds = {".js": "text/javascript"}  # the media type of .js differs between systems
    return {
        path.name: StaticFile(path.read_bytes(), kinds.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "")
        for path in sorted(FOLDER.iterdir())
    }


FILES: Mapping[str, StaticFile] = _read()
"""The files of the page by name; `PAGE` is the page itself."""


def capture_url(request: Request, public_origin: str, case_id: str, secret: str) -> str | None:
    """The link to the page for a case; None if it is unknown how the person's device reaches this service.

    public_origin: from the settings. If it is empty, the origin of the request is used, but only on loopback: any other
    Host header is not trusted, because it would choose where the secret goes.
    """
    origin = public_origin
    if not origin and is_loopback(request.url.hostname or ""):
        origin = f"{request.url.scheme}://{request.url.netloc}"
    return f"{origin}/capture/#{case_id}/{secret}" if origin else None
