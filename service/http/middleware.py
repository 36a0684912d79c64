"""Wraps each request: a request id for its log lines, one log line at its end, safe headers, a size limit for JSON."""

from __future__ import annotations

import re
import secrets
import time

import structlog
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.http.problems import BODY_READ, CODE
from service.observability import tracing
from service.observability.metrics import Metrics

log = structlog.get_logger()

_CLIENT_ID = re.compile(r"[A-Za-z0-9_.-]{8,64}\Z")
_CASE_PATH = re.compile(r"/v1/cases/(case_[0-9a-z]{26})(?:/|\Z)")
_MAX_JSON = 64 * 1024
_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
}
"""Sent with every answer: personal data is not cached, not sniffed as another type, not framed, and not leaked in a
referrer. CORS is `service.http.app`'s.
"""


class RequestLog:
    """ASGI middleware. A client's own `X-Request-ID` is used if it is 8 to 64 letters, digits, `_`, `.` or `-`."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        client_id = headers.get(b"x-request-id", b"").decode("latin-1")
        request_id = client_id if _CLIENT_ID.match(client_id) else secrets.token_hex(8)
        case = _CASE_PATH.match(scope["path"])
        context = {"request_id": request_id} | ({"case_id": case[1]} if case else {})
        started, status = time.perf_counter(), 0

        async def answered(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                own = MutableHeaders(scope=message)
                own["X-Request-ID"] = request_id
                for name, value in _HEADERS.items():
                    own.setdefault(name, value)
            await send(message)

        with (
            structlog.contextvars.bound_contextvars(**context),
            tracing.request(scope["method"], headers) as span,
        ):
            try:
                max_bytes = None if "/uploads/" in scope["path"] else _MAX_JSON
                await self._app(scope, _limited(receive, scope, max_bytes), answered)
            finally:
                route, code = getattr(scope.get("route"), "path", "unknown"), scope.get(CODE)
                duration_s = time.perf_counter() - started
                tracing.answered(span, scope["method"], route, status, request_id, case[1] if case else "")
                self._metrics.answered(scope["method"], route, status, duration_s, code)
                with_code = {"code": code} if code else {}
                ms = round(duration_s * 1000, 1)
                log.info("request", method=scope["method"], route=route, status=status, ms=ms, **with_code)


def _limited(receive: Receive, scope: Scope, max_bytes: int | None) -> Receive:
    """A `receive` that marks in the scope when the body has ended, and rejects a body of more than `max_bytes`: at once
    if its Content-Length says so. None: no limit.
    """
    size = 0
    announced = dict(scope["headers"]).get(b"content-length", b"")
    too_large = HTTPException(413, f"The body is larger than {max_bytes} bytes. Send a smaller one.")

    async def limited() -> Message:
        nonlocal size
        if max_bytes is not None and announced.isdigit() and int(announced) > max_bytes:
            raise too_large
        message = await receive()
        size += len(message.get("body", b""))
        if max_bytes is not None and size > max_bytes:
            raise too_large
        if message["type"] == "http.request" and not message.get("more_body", False):
            scope[BODY_READ] = True
        return message

    return limited
