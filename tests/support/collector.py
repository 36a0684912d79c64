"""A trace collector: a real HTTP server on loopback that receives OTLP protobuf and stores every span."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.support.loopback import Loopback


@dataclass(frozen=True)
class Told:
    """A received span. Times in seconds. service: the service name in its resource."""

    name: str
    trace: str
    id: str
    parent: str
    start: float
    end: float
    attributes: dict[str, Any]
    failed: bool
    events: int
    service: str


class Collector(Loopback):
    """Receives spans at `url`, the value for `OTEL_EXPORTER_OTLP_ENDPOINT`."""

    def __init__(self) -> None:
        self.spans: list[Told] = []
        self.raw = b""
        self._came = threading.Condition()
        super().__init__(_handler_for(self))
        self.url = f"http://127.0.0.1:{self.port}"

    def take(self, body: bytes) -> None:
        """Store the spans of a request. Raises if the body is not OTLP."""
        request = ExportTraceServiceRequest.FromString(body)
        with self._came:
            self.raw += body
            for resource in request.resource_spans:
                name = _plain(resource.resource.attributes)["service.name"]
                self.spans += [_told(span, name) for scope in resource.scope_spans for span in scope.spans]
            self._came.notify_all()

    def wait(self, holds: Callable[[list[Told]], bool], timeout_s: float = 60) -> list[Told]:
        """Wait until a condition holds for all received spans, and return them."""
        deadline = time.monotonic() + timeout_s
        with self._came:
            while not holds(self.spans):
                assert self._came.wait(deadline - time.monotonic()), [span.name for span in self.spans]
            return list(self.spans)


def _plain(attributes: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}


def _told(span: Span, service: str) -> Told:
    return Told(
        name=span.name,
        trace=span.trace_id.hex(),
        id=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        start=span.start_time_unix_nano / 1e9,
        end=span.end_time_unix_nano / 1e9,
        attributes=_plain(span.attributes),
        failed=span.status.code == span.status.STATUS_CODE_ERROR,
        events=len(span.events),
        service=service,
    )


def _handler_for(collector: Collector) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            good = self.path == "/v1/traces" and self.headers["Content-Type"] == "application/x-protobuf"
            if good:
                collector.take(body)
            self.send_response(200 if good else 400)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    return Handler
