"""What redaction and retention ask of the case store: take out what speaks of a person, leave that there was a case.

Erased are the case's data key, and with it all that is sealed wherever copies are; the sealed columns themselves; its
reference, uploads, events, the request that made it and the answer it got; the reference in its webhooks. What stays:
id, profile, outcome, times, and the lines of the audit log. Media and findings go with `service.evidence.evidence`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from service.errors import ConflictError, UnknownCaseError
from service.lifecycle.case import Case
from service.lifecycle.transitions import redact
from service.store import audit
from service.store import outbox as webhook_outbox
from service.store.database import Database, database_errors, in_a_thread, scrub
from service.store.rows import case_of, erased_columns
from service.store.tables import CaseRow, DeliveryRow, EventRow, RequestRow, ResumableRow, ShadowRow, UploadRow
from service.vocabulary import OPEN


class Erasures:
    """Redacted cases in the case store. told: is called with the id of a case that was redacted."""

    def __init__(self, database: Database, told: Callable[[str], None]) -> None:
        self.threads = database.threads
        self._database = database
        self._reading, self._writing = database.reading, database.writing
        self._told = told

    @in_a_thread
    def redact(self, case_id: str, now: datetime, by: str) -> Case:
        """Erase what the store has of the person, in one transaction; harmless when repeated. by: who asked for it.

        Raises UnknownCaseError, CaseOpenError, StoreUnavailableError, and ConflictError when another was faster.
        """
        with self._writing() as session:
            row = session.get(CaseRow, case_id, with_for_update=True)
            if row is None:
                raise UnknownCaseError("No case has this id.")
            before = case_of(row, None)
            change = redact(before, now)
            if change is None:
                return before
            fresh = (CaseRow.id == case_id) & (CaseRow.revision == row.revision)
            values = {"revision": row.revision + 1, **erased_columns(change.case)}
            session.expunge(row)
            if session.execute(update(CaseRow).where(fresh).values(**values)).rowcount != 1:  # type: ignore[attr-defined]
                raise ConflictError("Another request changed this case first. Read it again, then repeat the request.")
            for table in (UploadRow, ResumableRow, EventRow, RequestRow, ShadowRow):
                session.execute(delete(table).where(table.case_id == case_id))
            _without_reference(session, case_id)
            webhook_outbox.put(session, change)
            audit.append(session, now, audit.entries_of(change, by))
        self._scrub()
        self._told(case_id)
        return change.case

    @in_a_thread
    def erased(self, case_id: str, now: datetime) -> datetime:
        """Of a redacted case nothing is left anywhere. Gives when that was said first: a sweep and a request may both
        have gone on with the same case. Raises UnknownCaseError, StoreUnavailableError.
        """
        with self._writing() as session:
            row = session.get(CaseRow, case_id, with_for_update=True)
            if row is None:
                raise UnknownCaseError("No case has this id.")
            if row.erased_at is not None:
                return row.erased_at
            row.erased_at = now
            audit.append(session, now, [audit.Entry(audit.SERVICE, "case.erased", case_id)])
        self._scrub()
        return now

    @in_a_thread
    def unfinished(self, most: int) -> list[Case]:
        """Redacted cases of which something may be left outside the store; `most` at most."""
        query = select(CaseRow).where(CaseRow.status == "redacted", CaseRow.erased_at.is_(None))
        with self._reading() as session:
            return [case_of(row, None) for row in session.scalars(query.order_by(CaseRow.id).limit(most))]

    @in_a_thread
    def past_retention(self, ended_before: Mapping[str, datetime], most: int) -> list[str]:
        """Ids of cases that ended before the moment given for their profile and are not redacted; `most` at most."""
        ended = CaseRow.status.not_in((*OPEN, "redacted"))
        with self._reading() as session:
            found: list[str] = []
            for profile, moment in ended_before.items():
                over = select(CaseRow.id).where(ended, CaseRow.profile == profile, CaseRow.updated_at < moment)
                found += session.scalars(over.order_by(CaseRow.updated_at).limit(most - len(found))).all()
        return found

    def _scrub(self) -> None:
        with database_errors(), self._database.engine.connect() as connection:
            scrub(connection)


def _without_reference(session: Session, case_id: str) -> None:
    """What the customer calls the case may be the person's name: take it out of the webhooks that told of the case."""
    for row in session.scalars(select(DeliveryRow).where(DeliveryRow.case_id == case_id)):
        body = json.loads(row.body)
        body["data"]["client_reference_id"] = None
        row.body = json.dumps(body, separators=(",", ":"))
