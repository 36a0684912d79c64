"""An upload is a late scatter: the scheduler plugin that releases a blocked graph.

A case's graph is submitted whole, long before its uploads exist. Each upload key is a placeholder task that asks for
the resource `UPLOAD`, which no worker offers: the scheduler keeps it in `no-worker` and everything behind it waits, at
the cost of a few kilobytes. Scattering the media under that very key is the event that sets the graph going.

Stock `Scheduler.update_data` writes the state of a known key without a transition, so its dependents would wait for
ever. `UploadPlugin` closes that gap for keys in `no-worker` and leaves every other key to the stock method.

This is the only file that touches private parts of `distributed`; it refuses versions it was not tested with. It does
not decide *when* to scatter (service) nor build graphs (graphs).
"""

from __future__ import annotations

import asyncio
import contextlib
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from distributed.diagnostics.plugin import SchedulerPlugin
from distributed.metrics import time

from workers.errors import UntestedBuildError

if TYPE_CHECKING:
    from distributed import Scheduler

TESTED_VERSIONS = frozenset({"2026.8.0"})
UPLOAD_RESOURCE = "UPLOAD"
SUBMITTED = "veridask_submitted"
"""Name of the scheduler's handler that answers when a graph was taken in."""
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
        scheduler.handlers[SUBMITTED] = self.submitted
        for stream in [*scheduler.stream_comms.values(), *scheduler.client_comms.values()]:
            stream.interval = SEND_INTERVAL

    async def submitted(self, key: str) -> None:
        """Answer once the scheduler knows `key`: graphs are taken in beside the message stream, at their own pace.

        A release or an upload sent right after a graph would otherwise overtake it.
        """
        while key not in self.scheduler.tasks:
            await asyncio.sleep(0.001)

    def add_worker(self, scheduler: Scheduler, worker: str) -> None:
        """Shorten the send timer towards a new worker."""
        scheduler.stream_comms[worker].interval = SEND_INTERVAL

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
