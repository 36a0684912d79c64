"""An upload is a late scatter: the scheduler plugin that releases a blocked graph.

A case's graph is submitted whole, long before its uploads exist. Each upload key is a placeholder task that asks for
the resource `UPLOAD`, which no worker offers: the scheduler keeps it in `no-worker` and everything behind it waits, at
the cost of a few kilobytes. Scattering the media under that very key is the event that sets the graph going.

Stock `Scheduler.update_data` writes the state of a known key without a transition, so its dependents would wait for
ever. `UploadPlugin` closes that gap for keys in `no-worker` and leaves every other key to the stock method.

A graph dies with the client that submitted it, unless another client wants its keys. So the plugin itself wants them
for as long as a case is retained: an API replica may die, and another one finds the graph where it stands.

This is the only file that touches private parts of `distributed`; it refuses versions it was not tested with. It does
not decide *when* to scatter (service) nor build graphs (graphs).
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
"""The client that the scheduler believes to want what is retained. It has no connection, so it never goes away."""
ANSWER_SECONDS = 30.0
"""Longest wait for the scheduler's answer to a call."""
GRAPH_SECONDS = 60.0
"""Longest wait for a graph that its client says to have sent."""
FORGET_SECONDS = 10.0
SEND_INTERVAL = 0.0002
"""Seconds between two sends on a stream. The stock 2–10 ms cost about 6 ms for each level of a graph."""


def require_tested_build(found: str | None = None) -> None:
    """Raise UntestedBuildError when this file was not tested with that version, by default the installed one."""
    found = found or version("distributed")
    if found not in TESTED_VERSIONS:
        raise UntestedBuildError(
            f"distributed {found} is not tested with veridask; install one of {', '.join(sorted(TESTED_VERSIONS))}"
        )


def missing_upload() -> None:
    """Body of a placeholder task. It can only run when a worker wrongly offers the resource `UPLOAD`."""
    raise RuntimeError(f"a worker offers the resource {UPLOAD_RESOURCE}; start workers with CPU or GPU alone")


class UploadPlugin(SchedulerPlugin):
    """Lets a scatter release the tasks that wait for its key, and shortens the scheduler's send timers."""

    name = "veridask-uploads"
    idempotent = True

    async def start(self, scheduler: Scheduler) -> None:
        """Take the place of the scheduler's `update_data`, for its own `scatter` and for direct scatters of clients."""
        require_tested_build()
        self.scheduler = scheduler
        self.stock_update_data = scheduler.update_data
        scheduler.update_data = self.update_data  # type: ignore[method-assign]
        scheduler.handlers["update_data"] = self.update_data
        self.keys: defaultdict[str, set[str]] = defaultdict(set)
        # Called by `RetainedGraphs`, the typed end of the same calls.
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
        """Want exactly these keys for a case, whoever submitted them, and no longer what was wanted for it before.

        Answers once the scheduler knows them: graphs are taken in beside the message stream, at their own pace, and a
        release or an upload sent right after a graph would otherwise overtake it. False when they did not come.
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
        """Want nothing more for a case: what no other client wants is forgotten. Harmless when repeated."""
        self._release_for(case, keep=set())
        self.keys.pop(case, None)

    async def forget(self, case: str) -> int:
        """Drop all tasks whose keys name a case, whoever wants them, from this scheduler and its workers.

        Gives how many are left after `FORGET_SECONDS`: a task that runs is dropped at its end.
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
        """The cases that something is retained for."""
        return list(self.keys)

    def count(self) -> int:
        """How many cases something is retained for."""
        return len(self.keys)

    def waiting(self, keys: list[str]) -> list[str]:
        """Those of these upload keys whose graphs still wait for them, or wait again because their worker was lost."""
        tasks = self.scheduler.tasks
        return [key for key in keys if key in tasks and tasks[key].state == "no-worker"]

    def _release_for(self, case: str, keep: set[str]) -> None:
        if gone := self.keys.get(case, set()) - keep:
            self.scheduler.client_releases_keys(keys=list(gone), client=RETAINER)

    def add_worker(self, scheduler: Scheduler, worker: str) -> None:
        """Shorten the send timer towards a new worker, and give it no work if it is of another build."""
        scheduler.stream_comms[worker].interval = SEND_INTERVAL
        self._keep_idle_if_other(worker)

    def status_change(self, status: str | Status, worker: str | WorkerState, stimulus_id: str) -> None:
        """A worker says how it is. One of another build never runs, whatever it says."""
        address = worker if isinstance(worker, str) else worker.address
        if not self._is_other(address) or status not in (Status.running, Status.running.name):
            self.stock_status_change(status, worker, stimulus_id)

    def _is_other(self, address: str) -> bool:
        worker = self.scheduler.workers.get(address)
        # One that says nothing was not started by our preload: a test's, or somebody's on a shared cluster.
        return worker is not None and worker.metrics.get(METRIC, build()) != build()

    def _keep_idle_if_other(self, address: str) -> None:
        """A worker that would judge by other rules stays connected, so that it can be seen, and gets no task."""
        if self._is_other(address):
            worker = self.scheduler.workers[address]
            worker.status = Status.paused
            self.scheduler.running.discard(worker)
            self.scheduler.check_idle_saturated(worker)
            found = worker.metrics[METRIC]
            logger.error("worker %s is of build %s, the service of %s: it gets no work", worker.name, found, build())

    def add_client(self, scheduler: Scheduler, client: str) -> None:
        """Shorten the send timer towards a new client. Its stream is made right after this call, hence the callback."""

        def shorten() -> None:
            with contextlib.suppress(KeyError):  # the client is gone again
                scheduler.client_comms[client].interval = SEND_INTERVAL

        scheduler.loop.add_callback(shorten)

    def update_data(self, *, who_has: dict[Any, list[str]], nbytes: dict[Any, int], client: str | None = None) -> None:
        """Learn of scattered data: a waiting upload goes through the state machine, all else through the stock method.

        who_has: addresses of the workers that hold each key; nbytes: its size; client: who scattered it.
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
        """Move one key from `no-worker` to `memory` as if a worker had just computed it."""
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
    """The plugin's calls as a client makes them. Each raises ClusterError when the scheduler does not answer."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def retain(self, case: str, keys: Sequence[str]) -> bool:
        """Retain exactly these keys for a case; false when the scheduler does not know them after `GRAPH_SECONDS`."""
        return bool(await self._answer("veridask_retain", 2 * GRAPH_SECONDS, case=case, keys=list(keys)))

    async def release(self, case: str) -> None:
        """Retain nothing more for a case. Harmless when repeated."""
        await self._answer("veridask_release", case=case)

    async def waiting(self, keys: Sequence[str]) -> set[str]:
        """Those of these upload keys whose graphs wait for them."""
        return set(await self._answer("veridask_waiting", keys=list(keys)))

    async def case_ids(self) -> set[str]:
        """The cases that something is retained for."""
        return set(await self._answer("veridask_case_ids"))

    async def count(self) -> int:
        """How many cases something is retained for."""
        return int(await self._answer("veridask_count"))

    async def forget(self, case: str) -> int:
        """Drop all tasks of a case, whoever wants them; gives how many are left after `FORGET_SECONDS`."""
        return int(await self._answer("veridask_forget", case=case))

    async def _answer(self, handler: str, longest_s: float = ANSWER_SECONDS, **arguments: Any) -> Any:
        try:
            return await asyncio.wait_for(getattr(self._client.scheduler, handler)(**arguments), longest_s)
        except (OSError, TimeoutError) as error:
            raise ClusterError(f"the scheduler does not answer: {type(error).__name__}") from error
