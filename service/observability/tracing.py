"""OpenTelemetry traces of requests, uploads, cases with their tasks, and webhook attempts.

Off unless OpenTelemetry's usual variables name an endpoint (`OTEL_EXPORTER_OTLP_ENDPOINT`); then a span costs only
microseconds. Attributes are ids, codes and durations. The text of an exception, a path or a query is never recorded: it
could hold personal data or a credential.

Metrics are in `service.observability.metrics`.
"""

from __future__ import annotations

import importlib.util
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from importlib.metadata import version

from opentelemetry import context, trace
from opentelemetry.trace import Span, SpanContext, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from graphs.flow import NODES
from graphs.records import TaskTime
from service.errors import SettingsError
from service.lifecycle.case import Case, Recorded

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_PROTOCOL = "http/protobuf"
_SHUTDOWN_S = 5.0
"""Longest wait at shutdown for a collector that does not answer."""
_MAX_DECIDED = 10_000

tracer = trace.get_tracer("veridask")
_propagator = TraceContextTextMapPropagator()


def is_enabled(environment: Mapping[str, str]) -> bool:
    """Whether tracing is configured. Raises SettingsError if it is, but traces cannot be sent."""
    off = environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    if off or environment.get("OTEL_TRACES_EXPORTER", "otlp") != "otlp" or not any(map(environment.get, _ENDPOINTS)):
        return False
    protocol = next((environment[name] for name in _PROTOCOLS if environment.get(name)), _PROTOCOL)
    if protocol != _PROTOCOL:
        raise SettingsError(f"traces are sent by {_PROTOCOL} alone; OTEL_EXPORTER_OTLP_PROTOCOL asks for {protocol}")
    if importlib.util.find_spec("opentelemetry.sdk") is None:
        raise SettingsError(
            "OTEL_EXPORTER_OTLP_ENDPOINT is set and the extra `tracing` is not installed: install it, or set "
            "OTEL_SDK_DISABLED=true"
        )
    return True


@contextmanager
def exported(environment: Mapping[str, str]) -> Iterator[None]:
    """Export the spans of this process inside the `with` block, if tracing is configured. Raises SettingsError.

    Use it only once per process.
    """
    if not is_enabled(environment):
        yield
        return
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    name = environment.get("OTEL_SERVICE_NAME", "veridask")
    resource = Resource.create({"service.name": name, "service.version": version("veridask")})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    try:
        yield
    finally:
        ending = threading.Thread(target=provider.shutdown, daemon=True)
        ending.start()
        ending.join(_SHUTDOWN_S)


@contextmanager
def span(name: str, kind: SpanKind = SpanKind.INTERNAL, **attributes: str | int | float) -> Iterator[Span]:
    """A span around the `with` block, as a child of the current one. Of an exception only the type is recorded.

    attributes: a double underscore in a name stands for a dot.
    """
    named = {key.replace("__", "."): value for key, value in attributes.items()}
    with tracer.start_as_current_span(
        name, kind=kind, attributes=named, record_exception=False, set_status_on_exception=False
    ) as begun:
        try:
            yield begun
        except BaseException as error:
            _failed(begun, type(error).__name__)
            raise


@contextmanager
def request(method: str, headers: Mapping[bytes, bytes]) -> Iterator[Span]:
    """The span of a request, in the trace of its `traceparent` header if it has one."""
    given = {"traceparent": headers.get(b"traceparent", b"").decode("latin-1")}
    token = context.attach(_propagator.extract(given))  # without the header: a context without a span
    try:
        with span(method, SpanKind.SERVER, http__request__method=method) as begun:
            yield begun
    finally:
        context.detach(token)


def answered(begun: Span, method: str, route: str, status: int, request_id: str, case_id: str) -> None:
    """Complete the span of a request. case_id: empty if it concerns no case."""
    if not begun.is_recording():
        return
    begun.update_name(f"{method} {route}")
    begun.set_attributes({"http.route": route, "http.response.status_code": status, "veridask.request_id": request_id})
    if case_id:
        begun.set_attribute("veridask.case_id", case_id)
    if status >= 500:
        _failed(begun, str(status))


def _failed(begun: Span, what: str) -> None:
    begun.set_status(Status(StatusCode.ERROR))
    begun.set_attribute("error.type", what)


class CaseSpans:
    """The spans of cases: `case` from the last upload to the decision, with a child span per task, and the webhooks.

    If this process took the last upload, the span is part of the trace of that upload.
    """

    def __init__(self) -> None:
        self._decided: OrderedDict[str, SpanContext] = OrderedDict()

    def decided(self, case: Case, recorded: Recorded, received_at: datetime, tasks: list[TaskTime]) -> None:
        """Record the spans of a case that was just decided. received_at: time of its last upload."""
        attributes = {
            "veridask.case_id": case.id,
            "veridask.profile": case.profile,
            "veridask.outcome": recorded.decision.outcome,
            "veridask.decided_by": recorded.decided_by,
            "veridask.cell": case.cell,
        }
        whole = tracer.start_span("case", attributes=attributes, start_time=_ns(received_at.timestamp()))
        if whole.is_recording():
            below = trace.set_span_in_context(whole)
            for task in tasks:
                placed = {
                    "veridask.worker": task.worker,
                    "veridask.label": NODES[task.node].placement.label if task.node in NODES else "",
                    "veridask.duration_ms": task.duration_ms,
                    **({"veridask.result": task.result} if task.result else {}),
                }
                each = tracer.start_span(task.node, below, attributes=placed, start_time=_ns(task.started_at))
                each.end(_ns(task.started_at + task.duration_ms / 1000))
            self._decided[case.id] = whole.get_span_context()
            if len(self._decided) > _MAX_DECIDED:
                self._decided.popitem(last=False)
        whole.end(_ns(recorded.decided_at.timestamp()))

    @contextmanager
    def webhook(self, case_id: str, endpoint_id: str, delivery_id: str) -> Iterator[Span]:
        """The span of an attempt. A child of the span of the case, if this process decided it."""
        parent = self._decided.get(case_id)
        token = None
        if parent is not None:
            token = context.attach(trace.set_span_in_context(trace.NonRecordingSpan(parent)))
        ids = {
            "veridask__case_id": case_id,
            "veridask__endpoint_id": endpoint_id,
            "veridask__delivery_id": delivery_id,
        }
        try:
            with span("webhook attempt", SpanKind.CLIENT, **ids) as begun:
                yield begun
        finally:
            if token is not None:
                context.detach(token)


def _ns(seconds: float) -> int:
    return int(seconds * 1e9)
