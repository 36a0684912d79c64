"""How many there are of what in the case store, for `/metrics`: counts alone, nothing of a case."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import exists, func, select

from service.store.database import Database, in_a_thread
from service.store.tables import CaseRow, DeliveryRow, ReplicaRow, ResumableRow, UploadRow


@dataclass(frozen=True)
class Counts:
    """cases: by status and outcome, an empty one before a decision; backlog: webhooks that are not delivered yet;
    unfinished: resumable uploads that may go on; unerased: redacted cases of which something may be left.
    """

    cases: Mapping[tuple[str, str], int]
    backlog: int
    replicas: int
    unfinished: int
    unerased: int


class StoreCounts:
    """Counts in the case store's database."""

    def __init__(self, database: Database) -> None:
        self.threads = database.threads
        self._database = database

    @in_a_thread
    def counts(self) -> Counts:
        """Counted now; reads the table of cases through. Raises StoreUnavailableError."""
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
