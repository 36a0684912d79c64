"""Erases the personal data of a case from the case store, for redaction and retention.

Erased: the data key of the case, and with it everything sealed by it, in every copy; the sealed columns themselves; the
client's reference, also in webhooks; uploads, events, shadow verdicts, and the request that created the case with its
answer. Kept: id, profile, outcome, times, and the lines of the audit log.

Media and findings are erased by `service.evidence.evidence`; `service.cases.redaction` calls both.
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
    """Redacted cases in the case store. notify: called with the id of each case that is redacted."""

    def __init__(self, database: Database, notify: Callable[[str], None]) -> None:
        self.threads = database.threads
        self._database = database
        self._reading, self._writing = database.reading, database.writing
        self._notify = notify

    @in_a_thread
    def redact(self, case_id: str, now: datetime, by: str) -> Case:
        """Erase the personal data of a case in the store, in one transaction. Can be repeated. by: the actor.

        Raises UnknownCaseError, CaseOpenError, StoreUnavailableError, and ConflictError if another request changed the
        case first.
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
            _erase_reference(session, case_id)
            webhook_outbox.add_deliveries(session, change)
            audit.append(session, now, audit.entries_of(change, by))
        self._scrub()
        self._notify(case_id)
        return change.case

    @in_a_thread
    def mark_erased(self, case_id: str, now: datetime) -> datetime:
        """Record that nothing of a redacted case is left anywhere. Returns when that was first recorded: a sweep and a
        request may both finish the same case. Raises UnknownCaseError, StoreUnavailableError.
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
        """Up to `most` redacted cases of which data may be left outside the store."""
        query = select(CaseRow).where(CaseRow.status == "redacted", CaseRow.erased_at.is_(None))
        with self._reading() as session:
            return [case_of(row, None) for row in session.scalars(query.order_by(CaseRow.id).limit(most))]

    @in_a_thread
    def past_retention(self, ended_before: Mapping[str, datetime], most: int) -> list[str]:
        """Up to `most` ids of cases that ended before the time given for their profile and are not redacted."""
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


def _erase_reference(session: Session, case_id: str) -> None:
    """Remove the client's reference from the webhooks of the case: it may be the name of the person."""
    for row in session.scalars(select(DeliveryRow).where(DeliveryRow.case_id == case_id)):
        body = json.loads(row.body)
        body["data"]["client_reference_id"] = None
        row.body = json.dumps(body, separators=(",", ":"))
