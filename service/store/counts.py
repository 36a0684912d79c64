"""Counts of stored cases, webhooks and uploads, for `/metrics`. They hold no data of a single case."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import exists, func, select

from service.store.database import Database, in_a_thread
from service.store.tables import CaseRow, DeliveryRow, ReplicaRow, ResumableRow, UploadRow


@dataclass(frozen=True)
class Counts:
    """Counts at one moment.

    cases: by status and outcome; the outcome is empty before a decision. backlog: webhooks that are not delivered yet.
    replicas: registered API processes. unfinished: resumable uploads that can continue. unerased: redacted cases of
    which data may be left outside the store.
    """

    cases: Mapping[tuple[str, str], int]
    backlog: int
    replicas: int
    unfinished: int
    unerased: int


class StoreCounts:
    """Counts rows in the case store's database."""

    def __init__(self, database: Database) -> None:
        self.threads = database.threads
        self._database = database

    @in_a_thread
    def counts(self) -> Counts:
        """Count now. Scans the table of cases. Raises StoreUnavailableError."""
        with self._database.reading() as session:
            by_state = select(CaseRow.status, CaseRow.outcome, func.count()).group_by(CaseRow.status, CaseRow.outcome)
            cases = {(status, outcome or ""): count for status, outcome, count in session.execute(by_state).all()}
            pending = select(func.count()).select_from(DeliveryRow).where(DeliveryRow.state == "pending")
            backlog = session.scalars(pending).one()
            replicas = session.scalars(select(func.count()).select_from(ReplicaRow)).one()
            accepted = exists().where(UploadRow.id == ResumableRow.id)
            goes_on = select(func.count()).where(ResumableRow.ended_at.is_(None), ~accepted)
            unfinished = session.scalars(goes_on).one()
            left = select(func.count()).where(CaseRow.status == "redacted", CaseRow.erased_at.is_(None))
            unerased = session.scalars(left).one()
        return Counts(cases, backlog, replicas, unfinished, unerased)
