"""One call per event for both metrics and traces, so that neither is forgotten.

The metrics are in `service.observability.metrics`; traces, which are optional, in `service.observability.tracing`.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Concatenate, Literal, ParamSpec, Protocol, TypeVar

from graphs.records import TaskTime
from models.errors import VeridaskError
from service.lifecycle.case import Case
from service.observability import tracing
from service.observability.metrics import OTHER, Metrics

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S", bound="HasTelemetry")


class HasTelemetry(Protocol):
    """Something with a `telemetry` attribute."""

    telemetry: Telemetry


def stage(
    name: str,
) -> Callable[[Callable[Concatenate[S, P], Awaitable[R]]], Callable[Concatenate[S, P], Awaitable[R]]]:
    """A decorator for a method that is one stage of an upload: `receive`, `probe`."""

    def around(method: Callable[Concatenate[S, P], Awaitable[R]]) -> Callable[Concatenate[S, P], Awaitable[R]]:
        @wraps(method)
        async def timed(owner: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
            with owner.telemetry.stage(name):
                return await method(owner, *args, **kwargs)

        return timed

    return around


class Telemetry:
    """Metrics and traces of one API process. types: the media types that are label values; others count as `other`."""

    def __init__(self, metrics: Metrics | None = None, types: Iterable[str] = ()) -> None:
        self.metrics = metrics or Metrics()
        self._spans = tracing.CaseSpans()
        self._types = frozenset(types)

    @contextmanager
    def upload(self, case: Case, step: str, content_type: str) -> Iterator[None]:
        """Measure an upload in one request, or a resumable one after its last byte arrived."""
        known = step if step in case.steps else OTHER
        media = content_type if content_type in self._types else OTHER
        began, result = time.perf_counter(), "broken_off"
        try:
            with tracing.span("upload", veridask__case_id=case.id, veridask__step=known):
                yield
            result = "accepted"
            self.metrics.upload_s.labels(known).observe(time.perf_counter() - began)
        except VeridaskError as error:
            result = error.code
            raise
        finally:
            self.metrics.uploads.labels(known, media, result).inc()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure one stage of an upload: `receive`, `probe` or `keep`."""
        began = time.perf_counter()
        with tracing.span(f"upload {name}"):
            yield
        self.metrics.upload_stage_s.labels(name).observe(time.perf_counter() - began)

    @contextmanager
    def arrival(self, case_id: str, step: str, upload_id: str, stored_bytes: Callable[[], int]) -> Iterator[None]:
        """Measure one request of a resumable upload. stored_bytes: returns the number of its bytes that were stored."""
        with tracing.span(
            "upload arrival", veridask__case_id=case_id, veridask__step=step, veridask__upload_id=upload_id
        ) as span:
            try:
                yield
            finally:
                span.set_attribute("veridask.bytes", stored_bytes())
                self.metrics.resumable_bytes.labels(step).inc(stored_bytes())

    def resumable(self, step: str, state: Literal["begun", "accepted", "ended"]) -> None:
        """Count a resumable upload that was begun, was accepted, or ended without being accepted."""
        self.metrics.resumable.labels(step, state).inc()

    def stored(self, step: str, size: int) -> None:
        """Count an upload that is durable. size: in bytes."""
        self.metrics.upload_bytes.labels(step).inc(size)

    def created(self, case: Case) -> None:
        """Count a created case."""
        self.metrics.created.labels(case.profile).inc()

    def ran(self, task: TaskTime) -> None:
        """Count a finished task of a case that this process works on."""
        seconds = task.duration_ms / 1000
        if not task.result:
            self.metrics.task_s.labels(task.node).observe(seconds)
            return
        self.metrics.checks.labels(task.node, task.result).inc()
        if task.result != "not_run":
            self.metrics.check_s.labels(task.node).observe(seconds)

    def decided(self, case: Case, times: Iterable[TaskTime] = ()) -> None:
        """Count a decision that this process recorded.

        times: of tasks that are not checks, as far as they are known here.
        """
        recorded, figures = case.recorded, self.metrics
        received_at = case.last_received_at
        if recorded is None or received_at is None:
            return
        figures.decided.labels(case.profile, recorded.decision.outcome, recorded.decided_by).inc()
        waited = (recorded.decided_at - received_at).total_seconds()
        figures.decision_s.labels(case.profile).observe(waited)
        checks = [TaskTime(c.name, c.started_at, c.duration_ms, c.worker, c.result) for c in case.checks]
        ran = [task for task in (*times, *checks) if task.result != "not_run"]
        self._spans.decided(case, recorded, received_at, sorted(ran, key=lambda task: task.started_at))

    @contextmanager
    def webhook(self, case_id: str, endpoint_id: str, delivery_id: str) -> Iterator[Callable[[str, int | None], None]]:
        """Measure an attempt. Yields a function to call with its resulting state and the status of the answer."""
        began = time.perf_counter()
        with self._spans.webhook(case_id, endpoint_id, delivery_id) as span:

            def ended(state: str, status: int | None) -> None:
                self.metrics.webhooks.labels(state).inc()
                self.metrics.webhook_s.observe(time.perf_counter() - began)
                span.set_attribute("veridask.state", state)
                if status is not None:
                    span.set_attribute("http.response.status_code", status)

            yield ended
