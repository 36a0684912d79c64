"""Several API processes on one case store: each sends heartbeats and takes over the cases of dead processes.

Each open case has one owner: the process that took its newest upload. A process without a heartbeat for 5 s is
considered dead, and the others take over its cases. If it is alive after all, both work on them for a moment. The
decision is still recorded only once, because the store applies a transition only once.

Submitting graphs and recording results is the work of `service.cases.reconciler`.
"""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta

import structlog

from service.cases.reconciler import CaseReconciler
from service.errors import ForgottenError
from service.lifecycle.case import Case
from service.periodic import start_periodic
from service.store.cases import CaseStore
from service.vocabulary import OPEN

log = structlog.get_logger()

HEARTBEAT_S = 1.0
"""Interval of heartbeats."""
DEAD_AFTER_S = 5.0
"""A process without a heartbeat for this long is considered dead: five intervals, because a busy event loop is late."""
_AT_ONCE = 200
"""Cases taken over per heartbeat."""
_RELEASE_S = 10.0
_GRACE = timedelta(seconds=300)
"""How long after the end of a case its cluster may hold it, until the findings are stored."""


class Replica:
    """This API process, with the id `id`, among all processes on the store."""

    def __init__(self, replica_id: str, store: CaseStore, reconciler: CaseReconciler) -> None:
        self.id = replica_id
        self._store = store
        self._reconciler = reconciler
        self._tasks: list[asyncio.Task[None]] = []
        self._heartbeat_at = 0.0

    @property
    def is_alive_in_store(self) -> bool:
        """Whether the last heartbeat in the store is recent, so that other processes consider this one alive."""
        return time.monotonic() - self._heartbeat_at < DEAD_AFTER_S

    async def start(self) -> None:
        """Send the first heartbeat and start the periodic work. Raises StoreUnavailableError."""
        await self._send_heartbeat(datetime.now(UTC))
        self._tasks = [
            start_periodic("heartbeat", HEARTBEAT_S, self._beat),
            start_periodic("release closed cases", _RELEASE_S, self.release_closed_cases),
        ]

    async def close(self) -> None:
        """Stop and unregister, so that other processes take over the cases at once."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._store.replicas.remove(self.id)

    async def _send_heartbeat(self, now: datetime) -> None:
        await self._store.replicas.heartbeat(self.id, now)
        self._heartbeat_at = time.monotonic()

    async def _beat(self, now: datetime) -> None:
        await self._send_heartbeat(now)
        await self.take_over(now)
        await self._sync_with_store(now)

    async def take_over(self, now: datetime) -> int:
        """Take over open cases of dead processes, at most 200. Returns how many."""
        orphaned = await self._store.replicas.orphaned_cases(now - timedelta(seconds=DEAD_AFTER_S), _AT_ONCE)
        by_replica: dict[str, list[Case]] = {}
        for case in orphaned:
            by_replica.setdefault(case.replica, []).append(case)
        for replica, cases in by_replica.items():
            await self._store.replicas.take_over([case.id for case in cases], replica, self.id)
            log.warning("cases_taken_over", count=len(cases), replica=replica)
        on_cells = (
            {cell: await self._reconciler.cells.graphs(cell).held() for cell in self._reconciler.cells.up}
            if orphaned
            else {}
        )
        for case in orphaned:
            if case.uploaded or case.id not in on_cells.get(case.cell, ()):
                self._reconciler.changed(case.id, last=case.status == "processing")
        return len(orphaned)

    async def _sync_with_store(self, now: datetime) -> None:
        """Stop work on cases that another process owns now (it took their newest upload), and reconcile cases that
        another process ended: canceled, expired, or decided at the deadline.
        """
        tracked = self._reconciler.tracked_case_ids
        for case_id, (status, replica, at) in (await self._store.status_of(tracked) if tracked else {}).items():
            if replica != self.id:
                self._reconciler.untrack(case_id)
            elif status in ("canceled", "expired") or (status not in OPEN and now - at >= _GRACE):
                self._reconciler.changed(case_id)

    async def release_closed_cases(self, now: datetime) -> None:
        """Release closed cases that a cluster still holds because the process that ended them died. Stores their
        findings.
        """
        for cell in self._reconciler.cells.up:
            on_cell = await self._reconciler.cells.graphs(cell).held()
            known = await self._store.status_of(sorted(on_cell))
            # A case that the store does not know belongs to another service on the same cluster.
            for case_id, (status, replica, at) in known.items():
                in_work = replica == self.id and case_id in self._reconciler.tracked_case_ids
                if status not in OPEN and not in_work and now - at >= _GRACE:
                    log.warning("closed_case_released", case_id=case_id)
                    try:
                        await self._reconciler.finish(await self._store.get(case_id))
                    except ForgottenError:  # redacted: nothing of it may be stored
                        await self._reconciler.cells.release(case_id)
