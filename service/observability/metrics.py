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
    "runnable_tasks": "Tasks that run or could, those of open cases without uploads not counted.",
    "waiting_tasks": "Runnable tasks that do not run.",
    "oldest_wait_seconds": "Since when the oldest waiting task could run.",
    "slots": "Tasks that run at once on the workers there are.",
    "busy_slots": "Slots with a task.",
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
        self.requests = self._counter("requests", "Requests answered.", "method", "route", "status")
        self.request_s = self._histogram("request_seconds", "From request to the end of its answer.", _QUICK_S, "route")
        self.problems = self._counter("problems", "Answers that are a problem, by its code.", "code")
        self.limited = self._counter("limited_requests", "Requests refused because too many came.", "of")
        self.uploads = self._counter("uploads", "Uploads by their end: accepted, or why not.", "step", "type", "result")
        self.upload_bytes = self._counter("upload_bytes", "Bytes of accepted uploads.", "step")
        self.upload_s = self._histogram("upload_seconds", "Accepted uploads: from the first byte on.", _QUICK_S, "step")
        self.upload_stage_s = self._histogram("upload_stage_seconds", "Parts of uploads.", _QUICK_S, "stage")
        self.resumable = self._counter("resumable_uploads", "Begun, accepted, or ended before.", "step", "state")
        self.resumable_bytes = self._counter("resumable_bytes", "Bytes of resumable uploads kept as pieces.", "step")
        self.created = self._counter("cases_created", "Cases created.", "profile")
        self.decided = self._counter("decisions", "Decisions recorded here.", "profile", "outcome", "decided_by")
        self.decision_s = self._histogram("decision_seconds", "Last upload to decision.", _WAIT_S, "profile")
        self.erased = self._counter("cases_erased", "Redacted cases of which nothing is left any more.")
        self.checks = self._counter("checks", "Checks that ended, by their result.", "check", "result")
        self.check_s = self._histogram("check_seconds", "Duration of checks.", _QUICK_S, "check")
        self.task_s = self._histogram("task_seconds", "Duration of tasks that are no checks.", _QUICK_S, "task")
        self.webhooks = self._counter("webhook_attempts", "Attempts by what came of them.", "state")
        self.webhook_s = self._histogram("webhook_seconds", "Duration of attempts.", _QUICK_S)
        self.probe_starts = self._counter("probe_restarts", "Probe processes that took the place of one that ended.")
        self.loop_lag_s = self._histogram("loop_lag_seconds", "How much later the event loop came than due.", _LAG_S)

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
