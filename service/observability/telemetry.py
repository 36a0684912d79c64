"""What the parts of the service tell of themselves while they work, as figures (`service.observability.metrics`) and,
where that is wanted, as traces (`service.observability.tracing`). One call each, so that neither is forgotten.
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
    """Something that tells of itself."""

    telemetry: Telemetry


def stage(
    name: str,
) -> Callable[[Callable[Concatenate[S, P], Awaitable[R]]], Callable[Concatenate[S, P], Awaitable[R]]]:
    """Around a method that is one part of an upload: `receive`, `probe`."""

    def around(method: Callable[Concatenate[S, P], Awaitable[R]]) -> Callable[Concatenate[S, P], Awaitable[R]]:
        @wraps(method)
        async def timed(me: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
            with me.telemetry.stage(name):
                return await method(me, *args, **kwargs)

        return timed

    return around


class Telemetry:
    """What is told in one API process. types: the media types that are a label of their own."""

    def __init__(self, metrics: Metrics | None = None, types: Iterable[str] = ()) -> None:
        self.metrics = metrics or Metrics()
        self._spans = tracing.CaseSpans()
        self._types = frozenset(types)

    @contextmanager
    def upload(self, case: Case, step: str, content_type: str) -> Iterator[None]:
        """Around all that is done for an upload that comes at once, or for a resumable one once all of it is there."""
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
        """Around one part of an upload: `receive`, `probe` or `keep`."""
        began = time.perf_counter()
        with tracing.span(f"upload {name}"):
            yield
        self.metrics.upload_stage_s.labels(name).observe(time.perf_counter() - began)

    @contextmanager
    def arrival(self, case_id: str, step: str, upload_id: str, kept: Callable[[], int]) -> Iterator[None]:
        """Around what one request brings to a resumable upload. kept: gives the bytes of it that count."""
        with tracing.span(
            "upload arrival", veridask__case_id=case_id, veridask__step=step, veridask__upload_id=upload_id
        ) as span:
            try:
                yield
            finally:
                span.set_attribute("veridask.bytes", kept())
                self.metrics.resumable_bytes.labels(step).inc(kept())

    def resumable(self, step: str, state: Literal["begun", "accepted", "ended"]) -> None:
        """A resumable upload was begun, was accepted, or was thrown away before it was."""
        self.metrics.resumable.labels(step, state).inc()

    def stored(self, step: str, size: int) -> None:
        """An upload of so many bytes is durable."""
        self.metrics.upload_bytes.labels(step).inc(size)

    def created(self, case: Case) -> None:
        """A case was created."""
        self.metrics.created.labels(case.profile).inc()

    def ran(self, task: TaskTime) -> None:
        """A task of a case that this process works on has ended."""
        seconds = task.duration_ms / 1000
        if not task.result:
            self.metrics.task_s.labels(task.node).observe(seconds)
            return
        self.metrics.checks.labels(task.node, task.result).inc()
        if task.result != "not_run":
            self.metrics.check_s.labels(task.node).observe(seconds)

    def decided(self, case: Case, times: Iterable[TaskTime] = ()) -> None:
        """A decision was recorded here. times: of tasks that are no checks, as far as this process heard of them."""
        recorded, figures = case.recorded, self.metrics
        if recorded is None or case.last_received_at is None:
            return
        figures.decided.labels(case.profile, recorded.decision.outcome, recorded.decided_by).inc()
        waited = (recorded.decided_at - case.last_received_at).total_seconds()
        figures.decision_s.labels(case.profile).observe(waited)
        checks = [TaskTime(c.name, c.started_at, c.duration_ms, c.worker, c.result) for c in case.checks]
        ran = [task for task in (*times, *checks) if task.result != "not_run"]
        self._spans.decided(case, recorded, sorted(ran, key=lambda task: task.started_at))

    @contextmanager
    def webhook(self, case_id: str, endpoint_id: str, delivery_id: str) -> Iterator[Callable[[str, int | None], None]]:
        """Around an attempt; gives what to call with the state that it led to and the status of the answer."""
        began = time.perf_counter()
        with self._spans.webhook(case_id, endpoint_id, delivery_id) as span:

            def ended(state: str, status: int | None) -> None:
                self.metrics.webhooks.labels(state).inc()
                self.metrics.webhook_s.observe(time.perf_counter() - began)
                span.set_attribute("veridask.state", state)
                if status is not None:
                    span.set_attribute("http.response.status_code", status)

            yield ended
