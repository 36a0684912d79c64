"""A proxy that loses answers: the service handles the request, but the client sees a broken connection."""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler

import httpx

from tests.support.loopback import Loopback

_PASSED = ("content-type", "authorization", "idempotency-key")


class LosingProxy(Loopback):
    """Forwards requests to the service at `service`. lose: how many of the next answers to `method` to lose. lost: the
    lost answers, with their status.
    """

    def __init__(self, service: str) -> None:
        self.lose, self.method = 0, ""
        self.lost: list[str] = []
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def passed_on(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                headers = {name: self.headers[name] for name in _PASSED if name in self.headers}
                answer = httpx.request(self.command, service + self.path, content=body, headers=headers, timeout=30)
                if proxy.lose > 0 and self.command.startswith(proxy.method):
                    proxy.lose -= 1
                    proxy.lost.append(f"{self.command} {self.path} {answer.status_code}")
                    self.close_connection = True
                    return
                self.send_response(answer.status_code)
                self.send_header("Content-Type", answer.headers["content-type"])
                self.send_header("Content-Length", str(len(answer.content)))
                self.end_headers()
                self.wfile.write(answer.content)

            do_GET = do_POST = do_PUT = do_DELETE = passed_on  # noqa: N815  the names that http.server looks for

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """Say nothing."""

        super().__init__(Handler)
        self.url = f"http://127.0.0.1:{self.port}"
