"""Prometheus metrics of one API process, in a registry of its own.

Labels have few values, whatever clients send: the template of a route, the name of a check, an error code. They never
hold an id, a path or a name. Durations are in seconds.

`service.http.gauges` adds the state of the store and the clusters, and serves both.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, disable_created_metrics

from service.observability.logs import TROUBLES
from workers.load import LabelLoad

_QUICK_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_WAIT_S = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 8.0, 13.0, 21.0, 34.0, 60.0, 120.0, 300.0)
_LAG_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
LOAD = {
    "runnable_tasks": "Tasks that run or could run; without those of open cases that lack uploads.",
    "waiting_tasks": "Runnable tasks that wait for a worker.",
    "oldest_wait_seconds": "Seconds since the oldest waiting task became runnable.",
    "slots": "Tasks that the connected workers can run at the same time.",
    "busy_slots": "Slots that run a task.",
    "workers": "Workers that are connected and not being retired.",
}
"""Gauges of the load per label. The API and `veridask autoscale` both publish them."""
OTHER = "other"
"""The value of a label for everything that is not a known value."""


def load_figures(load: LabelLoad) -> dict[str, float]:
    """The values of the `LOAD` gauges for one label."""
    return {
        "runnable_tasks": load.runnable,
        "waiting_tasks": load.waiting,
        "oldest_wait_seconds": load.oldest_s,
        "slots": load.slots,
        "busy_slots": load.busy,
        "workers": load.workers,
    }


class Metrics:
    """Everything that is counted as it happens. Each API process has its own; Prometheus adds them up."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series per metric, with the time of its creation
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.registry.register(TROUBLES)
        self.requests = self._counter("requests", "Finished requests.", "method", "route", "status")
        self.request_s = self._histogram(
            "request_seconds", "Time from a request to the end of its response.", _QUICK_S, "route"
        )
        self.problems = self._counter("problems", "Error responses, by error code.", "code")
        self.limited = self._counter("limited_requests", "Requests refused by a rate limit.", "of")
        self.uploads = self._counter(
            "uploads", "Uploads by result: accepted, or the error code.", "step", "type", "result"
        )
        self.upload_bytes = self._counter("upload_bytes", "Bytes of accepted uploads.", "step")
        self.upload_s = self._histogram(
            "upload_seconds", "Duration of accepted uploads, from the first byte.", _QUICK_S, "step"
        )
        self.upload_stage_s = self._histogram(
            "upload_stage_seconds", "Duration of the stages of uploads.", _QUICK_S, "stage"
        )
        self.resumable = self._counter(
            "resumable_uploads", "Resumable uploads begun, accepted, or ended without being accepted.", "step", "state"
        )
        self.resumable_bytes = self._counter("resumable_bytes", "Bytes of resumable uploads stored as pieces.", "step")
        self.created = self._counter("cases_created", "Cases created.", "profile")
        self.decided = self._counter(
            "decisions", "Decisions recorded by this process.", "profile", "outcome", "decided_by"
        )
        self.decision_s = self._histogram(
            "decision_seconds", "Time from the last upload to the decision.", _WAIT_S, "profile"
        )
        self.erased = self._counter("cases_erased", "Redacted cases whose data is erased completely.")
        self.checks = self._counter("checks", "Finished checks, by result.", "check", "result")
        self.check_s = self._histogram("check_seconds", "Duration of checks.", _QUICK_S, "check")
        self.task_s = self._histogram("task_seconds", "Duration of tasks that are not checks.", _QUICK_S, "task")
        self.webhooks = self._counter("webhook_attempts", "Webhook attempts, by resulting state.", "state")
        self.webhook_s = self._histogram("webhook_seconds", "Duration of webhook attempts.", _QUICK_S)
        self.probe_starts = self._counter("probe_restarts", "Probe processes that replaced one that ended.")
        self.loop_lag_s = self._histogram("loop_lag_seconds", "Lag of the event loop.", _LAG_S)

    def answered(self, method: str, route: str, status: int, seconds: float, code: str | None) -> None:
        """Count a finished request. status: 0 if the client disconnected first. code: of the problem, if it is one."""
        self.requests.labels(method if method in _METHODS else OTHER, route, str(status)).inc()
        self.request_s.labels(route).observe(seconds)
        if code is not None:
            self.problems.labels(code).inc()

    def _counter(self, name: str, meaning: str, *labels: str) -> Counter:
        return Counter(f"veridask_{name}", meaning, labels, registry=self.registry)

    def _histogram(self, name: str, meaning: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(f"veridask_{name}", meaning, labels, buckets=buckets, registry=self.registry)
