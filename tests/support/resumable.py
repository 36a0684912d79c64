"""Resumable uploads over real HTTP, as the device of a person sends them."""

from __future__ import annotations

import base64
import random
import socket
import struct
from urllib.parse import urljoin, urlsplit

import httpx

from service.client import VeridaskClient
from service.schemas.cases import CreatedView

MIB = 1024 * 1024


MARKER = b"Ottilie-Marker-Sample-in-the-media"


VERSION = {"Tus-Resumable": "1.0.0"}


BODY = {**VERSION, "Content-Type": "application/offset+octet-stream"}


def padded(video: bytes, size: int) -> bytes:
    """The same film, padded to `size` bytes by a box that players skip (ISO/IEC 14496-12): a marker, then noise."""
    noise = random.Random(7).randbytes(size - len(video) - 8 - len(MARKER))
    return video + struct.pack(">I4s", size - len(video), b"free") + MARKER + noise


def created(url: str, key: str) -> CreatedView:
    with VeridaskClient(url, key) as client:
        return client.create("recorded")


def device(url: str, case: CreatedView) -> httpx.Client:
    """An HTTP client that acts as the person's device."""
    return httpx.Client(base_url=url, headers={"Authorization": f"Bearer {case.client_secret}"}, timeout=60)


def begun(http: httpx.Client, case: CreatedView, length: int, step: str = "face", kind: str = "video/mp4") -> str:
    """Create an upload; gives its path."""
    base = f"/v1/cases/{case.id}/uploads/{step}/tus"
    metadata = (
        f"filename {base64.b64encode(b'ottilie.mp4').decode()},filetype {base64.b64encode(kind.encode()).decode()}"
    )
    answer = http.post(base, headers={**VERSION, "Upload-Length": str(length), "Upload-Metadata": metadata})
    assert answer.status_code == 201, answer.text
    assert (answer.headers["upload-offset"], answer.headers["tus-resumable"]) == ("0", "1.0.0")
    assert not urlsplit(answer.headers["location"]).netloc, "a proxy in front has another name"
    return urljoin(base, answer.headers["location"])


def offset(http: httpx.Client, path: str) -> int:
    answer = http.head(path, headers=VERSION)
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    return int(answer.headers["upload-offset"])


def patched(http: httpx.Client, path: str, at: int, content: bytes, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return http.patch(path, headers={**BODY, "Upload-Offset": str(at), **named}, content=content)


def half_sent(url: str, case: CreatedView, path: str, content: bytes, announced: int, at: int = 0) -> socket.socket:
    """Send the beginning of a PATCH; gives the open connection."""
    connection = socket.create_connection(("127.0.0.1", urlsplit(url).port or 0))
    head = (
        f"PATCH {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {case.client_secret}\r\nTus-Resumable: 1.0.0\r\n"
        f"Content-Type: application/offset+octet-stream\r\nUpload-Offset: {at}\r\nContent-Length: {announced}\r\n\r\n"
    )
    connection.sendall(head.encode() + content)
    return connection
