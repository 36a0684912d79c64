"""Traces by OpenTelemetry: requests, uploads, cases with their tasks, webhook attempts. Off unless an endpoint is named
by the variables that its tools share (`OTEL_EXPORTER_OTLP_ENDPOINT`); without it a span costs microseconds.

Attributes are ids, codes and durations. What an exception says is never recorded, nor a path or a query: either could
hold something of a person or a credential.
"""

from __future__ import annotations

import importlib.util
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
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
_ENDING_S = 5.0
"""Longest wait, when the service ends, for a collector that does not answer."""
_MOST_KEPT = 10_000

tracer = trace.get_tracer("veridask")
_propagator = TraceContextTextMapPropagator()


def is_wanted(environment: Mapping[str, str]) -> bool:
    """Whether traces are to be sent. Raises SettingsError when they are and cannot be."""
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
    """Send the spans of this process while inside, if they are wanted. Raises SettingsError. Once in a process."""
    if not is_wanted(environment):
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
        ending.join(_ENDING_S)


@contextmanager
def span(name: str, kind: SpanKind = SpanKind.INTERNAL, **attributes: str | int | float) -> Iterator[Span]:
    """A span around what is inside, below the current one. An exception leaves its type in it and nothing that it says.

    Attributes are named with two underscores for a dot.
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
    """The span of a request, in the trace that its `traceparent` names if it does."""
    given = {"traceparent": headers.get(b"traceparent", b"").decode("latin-1")}
    token = context.attach(_propagator.extract(given))  # of one that names none, a context without a span
    try:
        with span(method, SpanKind.SERVER, http__request__method=method) as begun:
            yield begun
    finally:
        context.detach(token)


def answered(begun: Span, method: str, route: str, status: int, request_id: str, case_id: str) -> None:
    """Complete the span of a request. case_id: empty when it is about none."""
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
    """The spans of cases: `case` from the last upload to the decision, in the trace of that upload where this process
    took it, each task below it, and the webhooks that follow.
    """

    def __init__(self) -> None:
        self._decided: OrderedDict[str, SpanContext] = OrderedDict()

    def decided(self, case: Case, recorded: Recorded, tasks: list[TaskTime]) -> None:
        """Tell of a decision that was just recorded."""
        assert case.last_received_at is not None  # noqa: S101  a decided case has its uploads
        begin = case.last_received_at.timestamp()
        attributes = {
            "veridask.case_id": case.id,
            "veridask.profile": case.profile,
            "veridask.outcome": recorded.decision.outcome,
            "veridask.decided_by": recorded.decided_by,
            "veridask.cell": case.cell,
        }
        whole = tracer.start_span("case", attributes=attributes, start_time=_ns(begin))
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
            if len(self._decided) > _MOST_KEPT:
                self._decided.popitem(last=False)
        whole.end(_ns(recorded.decided_at.timestamp()))

    @contextmanager
    def webhook(self, case_id: str, endpoint_id: str, delivery_id: str) -> Iterator[Span]:
        """The span of an attempt, below the case's where this process decided it."""
        known = self._decided.get(case_id)
        token = None
        if known is not None:
            token = context.attach(trace.set_span_in_context(trace.NonRecordingSpan(known)))
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
