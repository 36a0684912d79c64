"""An upload is a late scatter: the scheduler plugin that starts a waiting graph when an upload arrives.

The graph of a case is submitted whole, long before its uploads exist. Each upload key is a placeholder task that asks
for the resource `UPLOAD`, which no worker offers. The scheduler keeps it in the state `no-worker`, and everything
behind it waits. An open case of 28 tasks costs the scheduler about 83 KB and no worker thread. Scattering the media
under the key of the placeholder is the event that starts the graph.

The original `Scheduler.update_data` sets the state of a known key without a transition, so its dependents would wait
forever. `UploadPlugin` handles keys in `no-worker` itself and passes all other keys to the original method.

A scheduler forgets a graph when the client that submitted it disconnects, unless another client wants its keys. So the
plugin itself wants them, as the client `RETAINER`, while a case is retained. An API replica may die, and another one
continues with the graph as it is.

This is the only file that calls an underscore method of `distributed` or replaces one of its methods, and it refuses to
start with versions that it was not tested with. Other files use undocumented attributes: `cluster` and `preload` set
the send interval of a stream, `load` reads the state of tasks and workers. This file does not decide *when* to scatter
(`service`) and does not build graphs (`graphs`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import defaultdict
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from distributed.core import Status
from distributed.diagnostics.plugin import SchedulerPlugin
from distributed.metrics import time

from workers.build import METRIC, build
from workers.errors import ClusterError, UntestedBuildError
from workers.placement import UPLOAD_RESOURCE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from distributed import Client, Scheduler
    from distributed.scheduler import WorkerState

logger = logging.getLogger(__name__)

TESTED_VERSIONS = frozenset({"2026.8.0"})
RETAINER = "veridask"
"""Name of a client without a connection, which wants all retained keys. Without a connection it never disconnects."""
ANSWER_SECONDS = 30.0
"""Longest wait for the scheduler to answer a call."""
GRAPH_SECONDS = 60.0
"""Longest wait for a graph to reach the scheduler after its client has sent it."""
FORGET_SECONDS = 10.0
SEND_INTERVAL = 0.0002
"""Seconds between two sends on a stream. The default of 2 to 10 ms costs about 6 ms for each level of a graph."""


def require_tested_build(found: str | None = None) -> None:
    """Raise UntestedBuildError if this file was not tested with a version, by default the installed one."""
    found = found or version("distributed")
    if found not in TESTED_VERSIONS:
        raise UntestedBuildError(
            f"distributed {found} is not tested with veridask; install one of {', '.join(sorted(TESTED_VERSIONS))}"
        )


def missing_upload() -> None:
    """Body of a placeholder task. It runs only if a worker wrongly offers the resource `UPLOAD`."""
    raise RuntimeError(f"a worker offers the resource {UPLOAD_RESOURCE}; start workers with CPU or GPU alone")


class UploadPlugin(SchedulerPlugin):
    """Lets a scatter start the tasks that wait for its key, retains open cases, and shortens send timers."""

    name = "veridask-uploads"
    idempotent = True

    async def start(self, scheduler: Scheduler) -> None:
        """Replace the scheduler's `update_data`, for its own `scatter` and for direct scatters of clients."""
        require_tested_build()
        self.scheduler = scheduler
        self.stock_update_data = scheduler.update_data
        scheduler.update_data = self.update_data  # type: ignore[method-assign]
        scheduler.handlers["update_data"] = self.update_data
        self.keys: defaultdict[str, set[str]] = defaultdict(set)
        # `RetainedGraphs` calls these from the client.
        scheduler.handlers |= {
            "veridask_retain": self.retain,
            "veridask_release": self.release,
            "veridask_waiting": self.waiting,
            "veridask_case_ids": self.case_ids,
            "veridask_count": self.count,
            "veridask_forget": self.forget,
        }
        self.stock_status_change = scheduler.handle_worker_status_change
        scheduler.stream_handlers["worker-status-change"] = self.status_change
        for worker in scheduler.workers:
            self._keep_idle_if_other(worker)
        for stream in [*scheduler.stream_comms.values(), *scheduler.client_comms.values()]:
            stream.interval = SEND_INTERVAL

    async def retain(self, case: str, keys: list[str]) -> bool:
        """Retain exactly these keys for a case, whoever submitted them, in place of those retained for it before.

        Answers when the scheduler knows all keys; false if that takes longer than GRAPH_SECONDS. The wait is needed
        because the scheduler processes graphs apart from other messages: a release or an upload sent right after a
        graph could overtake it.
        """
        end = time() + GRAPH_SECONDS
        while not all(key in self.scheduler.tasks for key in keys):
            if time() > end:
                return False
            await asyncio.sleep(0.001)
        self.scheduler.client_desires_keys(keys=keys, client=RETAINER)
        self._release_for(case, keep=set(keys))
        self.keys[case] = set(keys)
        return True

    def release(self, case: str) -> None:
        """Stop retaining a case. Results that no other client wants are forgotten. Safe to repeat."""
        self._release_for(case, keep=set())
        self.keys.pop(case, None)

    async def forget(self, case: str) -> int:
        """Drop all tasks whose keys name a case, even if clients want them, from the scheduler and its workers.

        Returns how many are left after `FORGET_SECONDS`: a running task is dropped only when it ends.
        """
        self.release(case)
        end = time() + FORGET_SECONDS
        while left := [task for key, task in self.scheduler.tasks.items() if case in str(key)]:
            for task in left:
                for client in list(task.who_wants or ()):
                    self.scheduler.client_releases_keys(keys=[task.key], client=client.client_key)
            if time() > end:
                break
            await asyncio.sleep(0.05)
        return len(left)

    def case_ids(self) -> list[str]:
        """The ids of the retained cases."""
        return list(self.keys)

    def count(self) -> int:
        """The number of retained cases."""
        return len(self.keys)

    def waiting(self, keys: list[str]) -> list[str]:
        """The given upload keys that are still missing, or missing again because their worker was lost."""
        tasks = self.scheduler.tasks
        return [key for key in keys if key in tasks and tasks[key].state == "no-worker"]

    def _release_for(self, case: str, keep: set[str]) -> None:
        if gone := self.keys.get(case, set()) - keep:
            self.scheduler.client_releases_keys(keys=list(gone), client=RETAINER)

    def add_worker(self, scheduler: Scheduler, worker: str) -> None:
        """Shorten the send timer to a new worker, and give it no work if it runs another build."""
        scheduler.stream_comms[worker].interval = SEND_INTERVAL
        self._keep_idle_if_other(worker)

    def status_change(self, status: str | Status, worker: str | WorkerState, stimulus_id: str) -> None:
        """Handle the status that a worker reports. A worker of another build never becomes `running`."""
        address = worker if isinstance(worker, str) else worker.address
        if not self._is_other(address) or status not in (Status.running, Status.running.name):
            self.stock_status_change(status, worker, stimulus_id)

    def _is_other(self, address: str) -> bool:
        worker = self.scheduler.workers.get(address)
        # A worker without the metric was not started with our preload: in a test, or on a shared cluster.
        return worker is not None and worker.metrics.get(METRIC, build()) != build()

    def _keep_idle_if_other(self, address: str) -> None:
        """Pause a worker of another build, which would judge by other rules. It stays connected, to be visible."""
        if self._is_other(address):
            worker = self.scheduler.workers[address]
            worker.status = Status.paused
            self.scheduler.running.discard(worker)
            self.scheduler.check_idle_saturated(worker)
            found = worker.metrics[METRIC]
            logger.error("worker %s gets no work: it runs build %s, the service %s", worker.name, found, build())

    def add_client(self, scheduler: Scheduler, client: str) -> None:
        """Shorten the send timer to a new client. Its stream is created right after this call, hence the callback."""

        def shorten() -> None:
            with contextlib.suppress(KeyError):  # the client has already disconnected
                scheduler.client_comms[client].interval = SEND_INTERVAL

        scheduler.loop.add_callback(shorten)

    def update_data(self, *, who_has: dict[Any, list[str]], nbytes: dict[Any, int], client: str | None = None) -> None:
        """Register scattered data: an awaited upload by transitions, anything else by the original method.

        who_has: for each key, the addresses of the workers that hold it. nbytes: its size. client: who scattered it.
        """
        waiting = {key for key in who_has if (ts := self.scheduler.tasks.get(key)) and ts.state == "no-worker"}
        for key in waiting:
            self._release(key, who_has[key], nbytes.get(key, -1))
        rest = {key: holders for key, holders in who_has.items() if key not in waiting}
        if rest:
            self.stock_update_data(who_has=rest, nbytes=nbytes, client=client)
        if client and waiting:
            self.scheduler.client_desires_keys(keys=list(waiting), client=client)

    def _release(self, key: Any, holders: list[str], size: int) -> None:
        """Move one key from `no-worker` to `memory`, as if a worker had just computed it."""
        scheduler = self.scheduler
        workers = [scheduler.workers[scheduler.coerce_address(holder)] for holder in holders]
        ts = scheduler.tasks[key]
        scheduler.unrunnable.pop(ts)
        if size >= 0:
            ts.set_nbytes(size)
        recommendations: dict[Any, Any] = {}
        messages: dict[str, list[dict[str, Any]]] = {}
        scheduler._add_to_memory(ts, workers[0], recommendations, messages, type=b"", typename="bytes")
        for worker in workers[1:]:
            scheduler.add_replica(ts, worker)
        scheduler.send_all(messages, {})
        scheduler.transitions(recommendations, stimulus_id=f"upload-{time()}")


class RetainedGraphs:
    """The plugin's calls from the client side. Each raises ClusterError if the scheduler does not answer."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def retain(self, case: str, keys: Sequence[str]) -> bool:
        """Retain exactly these keys for a case; false if the scheduler does not know them after `GRAPH_SECONDS`."""
        return bool(await self._answer("veridask_retain", 2 * GRAPH_SECONDS, case=case, keys=list(keys)))

    async def release(self, case: str) -> None:
        """Stop retaining a case. Safe to repeat."""
        await self._answer("veridask_release", case=case)

    async def waiting(self, keys: Sequence[str]) -> set[str]:
        """The given upload keys that are still missing."""
        return set(await self._answer("veridask_waiting", keys=list(keys)))

    async def case_ids(self) -> set[str]:
        """The ids of the retained cases."""
        return set(await self._answer("veridask_case_ids"))

    async def count(self) -> int:
        """The number of retained cases."""
        return int(await self._answer("veridask_count"))

    async def forget(self, case: str) -> int:
        """Drop all tasks of a case, even if clients want them. Returns how many are left after `FORGET_SECONDS`."""
        return int(await self._answer("veridask_forget", case=case))

    async def _answer(self, handler: str, longest_s: float = ANSWER_SECONDS, **arguments: Any) -> Any:
        try:
            return await asyncio.wait_for(getattr(self._client.scheduler, handler)(**arguments), longest_s)
        except (OSError, TimeoutError) as error:
            raise ClusterError(f"the scheduler does not answer: {type(error).__name__}") from error
