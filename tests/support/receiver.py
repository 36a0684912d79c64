"""A webhook receiver: a real HTTP server on loopback that checks signatures and answers as a test asks."""

from __future__ import annotations

import contextlib
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from types import TracebackType
from typing import Any

from standardwebhooks import Webhook

from tests.support.loopback import Loopback

HANGS = 0
"""Stands for: do not answer at all."""
DRIPS = 1
"""Stands for: send a success status, then header bytes slowly and without end."""
ENDLESS = 299
"""A success status whose body never ends."""


@dataclass(frozen=True)
class Hook:
    """A received webhook. answer: the status that it was answered with."""

    id: str
    body: bytes
    headers: dict[str, str]
    path: str
    answer: int

    def checked(self, secret: str) -> dict[str, Any]:
        """Its payload. Raises if the signature was not made with this secret."""
        payload: dict[str, Any] = Webhook(secret).verify(self.body, self.headers)
        return payload


class Receiver(Loopback):
    """Receives webhooks at `url`. answer: the status for the n-th request (from 0) and its body; by default 200."""

    def __init__(
        self,
        answer: Callable[[int, bytes], int] = lambda _number, _body: 200,
        port: int = 0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.answer = answer
        self.hooks: list[Hook] = []
        self.came = threading.Condition()
        self.ends = threading.Event()
        super().__init__(_handler_for(self), port, tls)
        self.url = f"http://127.0.0.1:{self.port}/hooks"

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.ends.set()
        super().__exit__(kind, error, at)

    @property
    def taken(self) -> list[Hook]:
        """The webhooks answered with 2xx."""
        return [hook for hook in self.hooks if 200 <= hook.answer < 300]

    def wait(self, count: int, *, taken: bool = True, timeout_s: float = 60) -> list[Hook]:
        """Wait for this many webhooks and return them. taken: count only those answered with 2xx."""
        deadline = time.monotonic() + timeout_s
        with self.came:
            while len(found := self.taken if taken else list(self.hooks)) < count:
                assert self.came.wait(deadline - time.monotonic()), f"{len(found)} of {count} webhooks came"
        return found


def _handler_for(receiver: Receiver) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            with receiver.came:
                status = receiver.answer(len(receiver.hooks), body)
                headers = dict(self.headers.items())
                receiver.hooks.append(Hook(headers["webhook-id"], body, headers, self.path, status))
                receiver.came.notify_all()
            if status == HANGS:
                receiver.ends.wait()
                return
            if status == DRIPS:
                self.wfile.write(b"HTTP/1.0 200 OK\r\nX-Slow: ")
                self.drip()
                return
            self.send_response(status)
            if status == ENDLESS:
                self.end_headers()
                self.drip()
                return
            if 300 <= status < 400:
                self.send_header("Location", "/elsewhere")
            self.send_header("Set-Cookie", "kept=1")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def drip(self) -> None:
            with contextlib.suppress(OSError):  # until the other side disconnects
                while not receiver.ends.wait(0.05):
                    self.wfile.write(b"x")

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    return Handler
