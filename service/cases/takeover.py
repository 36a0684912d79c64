"""One of several API processes on one case store: says that it is there, and goes on with what others left.

Each open case has one process that looks after it, the one that took its newest upload. A process that was not seen for
a few seconds is believed dead, and its cases are taken over. Should it be alive after all, both work on them for a
moment: a decision is recorded once all the same, because the store applies a transition only once.
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

SEEN_S = 1.0
"""How often a process says that it is there."""
DEAD_S = 5.0
"""Silence after which one is believed dead: five times, because a busy event loop can be late."""
_AT_ONCE = 200
"""Cases taken over in one turn."""
_TIDY_S = 10.0
_GRACE = timedelta(seconds=300)
"""How long after its end a case may be held for its findings."""


class Replica:
    """This API process, `id`, among those on the store."""

    def __init__(self, replica_id: str, store: CaseStore, reconciler: CaseReconciler) -> None:
        self.id = replica_id
        self._store = store
        self._reconciler = reconciler
        self._tasks: list[asyncio.Task[None]] = []
        self._said_at = 0.0

    @property
    def is_seen(self) -> bool:
        """Whether others can know that this process is there: it could write that into the store lately."""
        return time.monotonic() - self._said_at < DEAD_S

    async def start(self) -> None:
        """Say that this process is there, then begin to look after the others. Raises StoreUnavailableError."""
        await self._say(datetime.now(UTC))
        self._tasks = [
            start_periodic("heartbeat", SEEN_S, self._look),
            start_periodic("tidy", _TIDY_S, self.tidy),
        ]

    async def close(self) -> None:
        """Go away in order: other processes take the cases over at once."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._store.gone(self.id)

    async def _say(self, now: datetime) -> None:
        await self._store.here(self.id, now)
        self._said_at = time.monotonic()

    async def _look(self, now: datetime) -> None:
        await self._say(now)
        await self.adopt(now)
        await self._drop_what_others_have(now)

    async def adopt(self, now: datetime) -> int:
        """Take over open cases of processes that are gone, a few hundred at most; gives how many."""
        left = await self._store.abandoned(now - timedelta(seconds=DEAD_S), _AT_ONCE)
        by_replica: dict[str, list[Case]] = {}
        for case in left:
            by_replica.setdefault(case.replica, []).append(case)
        for replica, cases in by_replica.items():
            await self._store.take_over([case.id for case in cases], replica, self.id)
            log.warning("cases_taken_over", count=len(cases), replica=replica)
        held = (
            {cell: await self._reconciler.cells.graphs(cell).held() for cell in self._reconciler.cells.up}
            if left
            else {}
        )
        for case in left:
            if case.uploaded or case.id not in held.get(case.cell, ()):
                self._reconciler.changed(case.id, last=case.status == "processing")
        return len(left)

    async def _drop_what_others_have(self, now: datetime) -> None:
        """A case whose newest upload went to another process is that one's; one that another process ended, by a
        cancellation, its expiry or its deadline, is over here as well.
        """
        mine = self._reconciler.working_on
        for case_id, (status, replica, at) in (await self._store.status_of(mine) if mine else {}).items():
            if replica != self.id:
                self._reconciler.drop(case_id)
            elif status in ("canceled", "expired") or (status not in OPEN and now - at >= _GRACE):
                self._reconciler.changed(case_id)

    async def tidy(self, now: datetime) -> None:
        """What a cluster still holds of closed cases, because the process that ended them died: keep it, let it go."""
        for cell in self._reconciler.cells.up:
            held = await self._reconciler.cells.graphs(cell).held()
            known = await self._store.status_of(sorted(held))
            # A case that the store does not know is another service's on the same cluster.
            for case_id, (status, replica, at) in known.items():
                alive = replica == self.id and case_id in self._reconciler.working_on
                if status not in OPEN and not alive and now - at >= _GRACE:
                    log.warning("closed_case_let_go", case_id=case_id)
                    try:
                        await self._reconciler.finish(await self._store.get(case_id))
                    except ForgottenError:  # erased: its findings are not wanted any more
                        await self._reconciler.cells.let_go(case_id)
