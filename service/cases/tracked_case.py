"""What is kept of a case while this process works on it (`service.cases.reconciler`)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from graphs.case import CaseFutures, upload_key
from graphs.records import CaseSpec, Step, TaskTime


@dataclass
class TrackedCase:
    """A case that this process works on. uploaded: the steps that had their uploads at the last look; delivered: those
    that the cluster was handed, from here or by another process; times: the last run of each task that is no check.
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
        """The key under which the cluster waits for that upload."""
        return upload_key(self.spec.case_id, step, self.spec.attempts[step])

    def stop(self) -> None:
        """Wait for nothing more."""
        for task in self.tasks - {asyncio.current_task()}:
            task.cancel()

    def release(self) -> None:
        """Wait for nothing more, and let the results go."""
        self.stop()
        self.futures.release()
