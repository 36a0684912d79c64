"""The load of a cluster by label: tasks that could run now, slots, and idle workers. A scheduler plugin counts it.

`adaptive_target` of `distributed` counts the placeholder tasks of open cases as work and ignores resources, so it would
start workers for people who have not filmed yet. Here a task counts only while it could run: in the states `queued`,
`processing`, or `no-worker` if it asks for a label. Placeholders ask for `UPLOAD`, so they never count.

Tasks are counted as they change state, so the cost of an answer grows with the work, not with the number of open cases.
The plugin uses the transition hook, `handlers`, and attributes without underscore of scheduler, tasks and workers. The
scheduler knows which tasks run from the workers' last heartbeats, half a second to a few seconds ago. This module
decides nothing: `workers.autoscale` does.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from distributed import Client, Status
from distributed.diagnostics.plugin import SchedulerPlugin

from workers.errors import ClusterError
from workers.placement import LABELS, Label

if TYPE_CHECKING:
    from distributed import Scheduler
    from distributed.scheduler import TaskState

LOAD = "veridask_load"
"""Name of the scheduler handler that returns the load."""
BATCHES = "veridask_batches"
"""Name of the worker metric that reports joined passes with each heartbeat: `ModelPool.figures`."""
RUNNABLE = frozenset({"queued", "processing", "no-worker"})


@dataclass(frozen=True)
class IdleWorker:
    """A worker without a task. idle_s: seconds without one."""

    address: str
    name: str
    idle_s: float


@dataclass(frozen=True)
class LabelLoad:
    """The load of one label.

    runnable: tasks that run or could run. waiting: runnable tasks that do not run. oldest_s: seconds since the oldest
    waiting task became runnable, 0 if none waits. slots: how many tasks all running workers can run at once. busy:
    slots with a task. workers: number of connected workers that are not being retired. idle: workers without a task,
    the longest idle first.
    """

    runnable: int = 0
    waiting: int = 0
    oldest_s: float = 0.0
    slots: int = 0
    busy: int = 0
    workers: int = 0
    idle: tuple[IdleWorker, ...] = ()


class LoadPlugin(SchedulerPlugin):
    """Counts runnable tasks by label as they change state, and answers `veridask_load`."""

    name = "veridask-load"
    idempotent = True

    async def start(self, scheduler: Scheduler) -> None:
        """Count the present tasks, then follow every transition."""
        self.scheduler = scheduler
        self.since: dict[Label, dict[Any, float]] = {label: {} for label in LABELS}  # the oldest first
        self.last_busy: dict[str, float] = {}
        for ts in scheduler.tasks.values():
            if ts.state in RUNNABLE:
                self._enter(ts)
        scheduler.handlers[LOAD] = self.load

    def transition(self, key: Any, start: str, finish: str, *_args: Any, **kwargs: Any) -> None:
        """Count a task that becomes runnable. One that becomes so again counts as new: its inputs were recomputed."""
        if finish in RUNNABLE:
            if start not in RUNNABLE:
                self._enter(self.scheduler.tasks[key])
        elif start in RUNNABLE:
            for keys in self.since.values():
                keys.pop(key, None)
            if worker := kwargs.get("worker"):
                self.last_busy[worker] = time.monotonic()

    def add_worker(self, scheduler: Scheduler, worker: str) -> None:  # noqa: ARG002  the hook's
        """Count a new worker as idle from now on."""
        self.last_busy[worker] = time.monotonic()

    def remove_worker(self, scheduler: Scheduler, worker: str, **_kwargs: Any) -> None:  # noqa: ARG002  the hook's
        """Forget a worker."""
        self.last_busy.pop(worker, None)

    def restart(self, scheduler: Scheduler) -> None:  # noqa: ARG002  the hook's
        """Forget all tasks: the scheduler dropped them without a transition."""
        for keys in self.since.values():
            keys.clear()

    def load(self) -> dict[str, dict[str, Any]]:
        """The load by label as plain values; the answer of the handler."""
        now = time.monotonic()
        return {label: self._of(label, now) for label in LABELS}

    def _enter(self, ts: TaskState) -> None:
        for label in LABELS:
            if label in (ts.resource_restrictions or ()):
                self.since[label][ts.key] = time.monotonic()

    def _of(self, label: Label, now: float) -> dict[str, Any]:
        workers = [
            ws
            for ws in self.scheduler.workers.values()
            if ws.resources.get(label, 0) > 0 and ws.status in (Status.running, Status.paused)
        ]
        slots = {ws.address: int(ws.resources[label]) for ws in workers if ws.status == Status.running}
        busy = 0
        idle = []
        for ws in workers:
            if ws.processing:
                self.last_busy[ws.address] = now
                busy += min(len(ws.processing), slots.get(ws.address, 0))
            elif ws.address in slots:
                idle.append((now - self.last_busy.get(ws.address, now), ws.address, str(ws.name)))
        runnable = len(self.since[label])
        return {
            "runnable": runnable,
            "waiting": max(0, runnable - busy),
            "oldest_s": self._oldest_waiting(label, slots, now) if runnable > busy else 0.0,
            "slots": sum(slots.values()),
            "busy": busy,
            "workers": len(workers),
            "idle": [[address, name, idle_s] for idle_s, address, name in sorted(idle, reverse=True)],
        }

    def _oldest_waiting(self, label: Label, slots: dict[str, int], now: float) -> float:
        """Age in seconds of the oldest task that does not run. Looks at one task more than are running, at most."""
        for key, since in self.since[label].items():
            ts = self.scheduler.tasks[key]
            ws = ts.processing_on
            runs = ws is not None and (len(ws.processing) <= slots.get(ws.address, 0) or ts in ws.executing)
            if not runs:
                return now - since
        return 0.0


async def read_load(client: Client, timeout_s: float) -> dict[Label, LabelLoad]:
    """The present load by label. Raises ClusterError if the scheduler is unreachable or lacks the plugin."""
    if client.status != "running":
        raise ClusterError("the scheduler is not connected")
    try:
        answer: Any = await asyncio.wait_for(getattr(client.scheduler, LOAD)(), timeout_s)
    except (OSError, TimeoutError) as error:
        raise ClusterError(f"the scheduler does not say its load: {type(error).__name__}") from error
    if answer is None:  # the answer to a request without a handler
        raise ClusterError("the scheduler lacks the load plugin: it is another one than before")
    return {
        label: LabelLoad(**{**found, "idle": tuple(IdleWorker(*each) for each in found["idle"])})
        for label, found in answer.items()
    }


@dataclass(frozen=True)
class Joined:
    """The sums of `batching.BatchFigures` of one model over all connected workers, each since its start.

    batch_largest: rows of the largest pass.
    """

    batch_calls: int = 0
    batch_rows: int = 0
    batch_passes: int = 0
    batch_fallbacks: int = 0
    batch_largest: int = 0
    batch_wait_seconds: float = 0.0

    def and_of(self, figures: Mapping[str, Any]) -> Joined:
        """These figures plus those of one more worker."""
        return Joined(
            self.batch_calls + figures["calls"],
            self.batch_rows + figures["items"],
            self.batch_passes + figures["passes"],
            self.batch_fallbacks + figures["fallbacks"],
            max(self.batch_largest, figures["max_batch"]),
            self.batch_wait_seconds + figures["wait_s"],
        )


async def joined_passes(client: Client, timeout_s: float) -> dict[str, Joined]:
    """The figures of joined passes by model; empty if nothing is joined. Raises ClusterError if there is no answer."""
    scheduler: Any = client.scheduler
    try:
        workers = (await asyncio.wait_for(scheduler.identity(n_workers=-1), timeout_s))["workers"]
    except (OSError, TimeoutError) as error:
        raise ClusterError(f"the scheduler does not say what was joined: {type(error).__name__}") from error
    found: dict[str, Joined] = {}
    for worker in workers.values():
        for model, figures in worker["metrics"].get(BATCHES, {}).items():
            found[model] = found.get(model, Joined()).and_of(figures)
    return found
