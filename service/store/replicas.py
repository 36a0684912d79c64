"""The API processes on a case store: their heartbeats, and which open cases each of them owns.

When a process counts as dead, and who takes over its cases, is decided in `service.cases.takeover`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from sqlalchemy import delete, select, update

from service.lifecycle.case import Case
from service.store.database import Database, in_a_thread
from service.store.tables import CaseRow, ReplicaRow
from service.vocabulary import OPEN

_AT_ONCE = 500
"""Ids per query: databases limit the number of parameters."""


class ReplicaStore:
    """Heartbeats and owners in the database of the case store. Each method raises StoreUnavailableError.

    case_of: opens the row of a case. What it raises, methods that return cases raise too.
    """

    def __init__(self, database: Database, case_of: Callable[[CaseRow], Case]) -> None:
        self.threads = database.threads
        self._reading, self._writing = database.reading, database.writing
        self._case_of = case_of

    @in_a_thread
    def heartbeat(self, replica: str, now: datetime) -> None:
        """Record that an API process is alive."""
        with self._writing() as session:
            done = session.execute(update(ReplicaRow).where(ReplicaRow.id == replica).values(seen_at=now))
            if done.rowcount != 1:  # type: ignore[attr-defined]  # an UPDATE returns a CursorResult
                session.add(ReplicaRow(id=replica, seen_at=now))

    @in_a_thread
    def remove(self, replica: str) -> None:
        """Unregister an API process that shuts down, so that others take over its cases at once."""
        with self._writing() as session:
            session.execute(delete(ReplicaRow).where(ReplicaRow.id == replica))

    @in_a_thread
    def orphaned_cases(self, seen_before: datetime, most: int) -> list[Case]:
        """Up to `most` open cases whose owner sent no heartbeat since `seen_before`; those with uploads first."""
        alive = select(ReplicaRow.id).where(ReplicaRow.seen_at >= seen_before)
        query = select(CaseRow).where(CaseRow.status.in_(OPEN), CaseRow.replica.not_in(alive))
        with self._reading() as session:
            rows = session.scalars(query.order_by(CaseRow.last_received_at.is_(None), CaseRow.id).limit(most))
            return [self._case_of(row) for row in rows.all()]

    @in_a_thread
    def take_over(self, case_ids: Sequence[str], before: str, now: str) -> None:
        """Change the owner of cases from the process `before` to `now`. Cases that a third process took over in the
        meantime keep that owner.
        """
        with self._writing() as session:
            for start in range(0, len(case_ids), _AT_ONCE):
                which = CaseRow.id.in_(case_ids[start : start + _AT_ONCE]) & (CaseRow.replica == before)
                session.execute(update(CaseRow).where(which).values(replica=now))

    @in_a_thread
    def owned_by(self, replica: str, cell: str) -> list[Case]:
        """The open cases of a cell that an API process owns; those with uploads first."""
        query = select(CaseRow).where(CaseRow.status.in_(OPEN), CaseRow.replica == replica, CaseRow.cell == cell)
        with self._reading() as session:
            rows = session.scalars(query.order_by(CaseRow.last_received_at.is_(None), CaseRow.id))
            return [self._case_of(row) for row in rows.all()]
