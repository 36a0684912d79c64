"""Around each request: an id for its log lines, one line when it ends, safe headers, a bound on bodies read whole."""

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

_GIVEN_ID = re.compile(r"[A-Za-z0-9_.-]{8,64}\Z")
_CASE_PATH = re.compile(r"/v1/cases/(case_[0-9a-z]{26})(?:/|\Z)")
_MAX_JSON = 64 * 1024
_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
}
"""With every answer: nothing of a person stays in a cache, is guessed to be a page, framed, or told to the next site.
An origin is let in by CORS only where `service.http.app` was told to.
"""


class RequestLog:
    """ASGI middleware. A request id that the client sent (`X-Request-ID`) is taken over when it is plain."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"").decode("latin-1")
        request_id = given if _GIVEN_ID.match(given) else secrets.token_hex(8)
        case = _CASE_PATH.match(scope["path"])
        known = {"request_id": request_id} | ({"case_id": case[1]} if case else {})
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
            structlog.contextvars.bound_contextvars(**known),
            tracing.request(scope["method"], headers) as span,
        ):
            try:
                most = None if "/uploads/" in scope["path"] else _MAX_JSON
                await self._app(scope, _watched(receive, scope, most), answered)
            finally:
                route, code = getattr(scope.get("route"), "path", "unknown"), scope.get(CODE)
                taken_s = time.perf_counter() - started
                tracing.answered(span, scope["method"], route, status, request_id, case[1] if case else "")
                self._metrics.answered(scope["method"], route, status, taken_s, code)
                said = {"code": code} if code else {}
                ms = round(taken_s * 1000, 1)
                log.info("request", method=scope["method"], route=route, status=status, ms=ms, **said)


def _watched(receive: Receive, scope: Scope, most: int | None) -> Receive:
    """Take note of a body's end, and refuse one of more than `most` bytes, at once where it is announced."""
    size = 0
    announced = dict(scope["headers"]).get(b"content-length", b"")
    too_large = HTTPException(413, f"The body is larger than {most} bytes")

    async def watched() -> Message:
        nonlocal size
        if most is not None and announced.isdigit() and int(announced) > most:
            raise too_large
        message = await receive()
        size += len(message.get("body", b""))
        if most is not None and size > most:
            raise too_large
        if message["type"] == "http.request" and not message.get("more_body", False):
            scope[BODY_READ] = True
        return message

    return watched
