"""The state of one case while this process works on it. `service.cases.reconciler` creates, uses and removes it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from graphs.case import CaseFutures, upload_key
from graphs.records import CaseSpec, Step, TaskTime


@dataclass
class TrackedCase:
    """A case that this process works on.

    uploaded: steps that had an upload at the last reconciliation. delivered: steps whose upload the cluster has, from
    this or another process. watched: names of the results that a task waits for. times: the last run of each task that
    is not a check.
    """

    spec: CaseSpec
    cell: str
    futures: CaseFutures
    uploaded: frozenset[Step] = frozenset()
    delivered: set[Step] = field(default_factory=set)
    watched: set[str] = field(default_factory=set)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    times: dict[str, TaskTime] = field(default_factory=dict)

    def key(self, step: Step) -> str:
        """The key under which the cluster waits for the upload of a step."""
        return upload_key(self.spec.case_id, step, self.spec.attempts[step])

    def stop(self) -> None:
        """Cancel the tasks that wait for results."""
        for task in self.tasks - {asyncio.current_task()}:
            task.cancel()

    def release(self) -> None:
        """Cancel the waiting tasks and release the results."""
        self.stop()
        self.futures.release()
