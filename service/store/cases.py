"""The case store: cases, uploads and events in SQL.

Each change is one transaction, applied to the revision that it was computed from. So one of two simultaneous uploads
wins, and a decision is recorded exactly once, whichever processes write.

Personal data is encrypted with the data key of its case (`service.store.rows`, `service.store.data_keys`). The webhooks
for a change are written in the same transaction (`service.store.outbox`). Opening the database is in
`service.store.database`.

The store does not hold media (`service.evidence.evidence`) and does not decide what a change is
(`service.lifecycle.transitions`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TypeVar

import structlog
from sqlalchemy import func, select, text, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from service.crypto.keyring import Keyring
from service.crypto.sealing import Values
from service.errors import ConflictError, ForgottenError, StoreUnavailableError, UnknownCaseError
from service.lifecycle.case import Case, Change, Event
from service.lifecycle.identifiers import is_case_id
from service.store import audit, data_keys, revisions
from service.store import outbox as webhook_outbox
from service.store.api_keys import ApiKeys
from service.store.database import Database, database_errors, in_a_thread
from service.store.erasure import Erasures
from service.store.listing import CaseFilter, ListedCase, listed, page_query
from service.store.replicas import ReplicaStore
from service.store.rows import (
    StoredEvent,
    StoredRequest,
    Upload,
    case_of,
    columns_of,
    event_columns,
    event_of,
    request_columns,
    request_of,
    upload_columns,
    upload_of,
)
from service.store.tables import CaseRow, EventRow, PieceRow, RequestRow, UploadRow
from service.vocabulary import Migrations

log = structlog.get_logger()

_REVISION_TRIES = 10
_AT_ONCE = 500
"""Ids per query: databases limit the number of parameters."""

C = TypeVar("C", bound=Change | None)


class CaseStore:
    """The case store at a SQLAlchemy URL.

    on_events: called on the event loop with a case's id after events of it were committed. keyring: wraps and unwraps
    the data keys of cases. migrations: whether `start` may change tables. Every method that reads a case may also raise
    KeyMissingError, ForgottenError and SealBrokenError.
    """

    def __init__(
        self, url: str, on_events: Callable[[str], None], keyring: Keyring, migrations: Migrations = "at_start"
    ) -> None:
        self.database = Database(url)
        self.threads = self.database.threads
        self._engine = self.database.engine
        self._reading, self._writing = self.database.reading, self.database.writing
        self._on_events = on_events
        self._keyring = keyring
        self._migrations = migrations
        self.keys = ApiKeys(self.database)
        self.audit = audit.AuditLog(self.database)
        self.erasures = Erasures(self.database, self._notify)
        self.replicas = ReplicaStore(self.database, self._case)

    async def start(self) -> None:
        """Bring the tables to the newest revision (`service.store.revisions`) and check the keyring.

        Raises StoreUnavailableError; StoreRevisionError if the tables cannot be upgraded; KeyMissingError if the
        keyring lacks a key that wrapped data keys of some cases.
        """
        self._loop = asyncio.get_running_loop()
        await self._prepare()

    @in_a_thread
    def _prepare(self) -> None:
        before = revisions.prepare(self.database, self._migrations)
        if before != revisions.newest():
            log.info("tables_upgraded", before=before, after=revisions.newest())
        with self._reading() as session:
            data_keys.require_openable(session, self._keyring)

    async def close(self) -> None:
        """Wait for calls in progress, then close all connections."""
        await self.database.close()

    def _notify(self, case_id: str) -> None:
        """Call `on_events` on the event loop. Scheduled before the call that wrote the events returns."""
        self._loop.call_soon_threadsafe(self._on_events, case_id)

    @in_a_thread
    def check(self) -> None:
        """Run a trivial query. Raises StoreUnavailableError."""
        with database_errors(), self._engine.connect() as connection:
            connection.execute(text("SELECT 1"))

    @in_a_thread
    def create(
        self, change: Change, request: StoredRequest | None = None, *, by: str = audit.SERVICE
    ) -> StoredRequest | None:
        """Store a new case with its first events. by: the actor, for the audit log.

        If a request with the same Idempotency-Key exists, nothing is stored and that request is returned; otherwise
        None.
        """
        try:
            known = self._insert(change, request, by)
        except ConflictError:
            # On PostgreSQL two requests with one key may write at once: the later fails when the first has committed.
            known = self._find_request(request.key) if request is not None else None
            if known is None:
                raise
        if known is None:
            self._notify(change.case.id)
        return known

    def _insert(self, change: Change, request: StoredRequest | None, by: str) -> StoredRequest | None:
        case = change.case
        with self._writing() as session:
            if request is not None:
                known = session.get(RequestRow, request.key)
                if known is not None:
                    return self._request(session, known)
            key = self._keyring.new_data_key(case.id)
            row = CaseRow(id=case.id, revision=0, key_id=key.key_id, data_key=key.sealed)
            values = Values(data_keys.data_key(row, self._keyring))
            for name, value in columns_of(case, values).items():
                setattr(row, name, value)
            session.add(row)
            session.flush()  # the rows below reference it
            if request is not None:
                session.add(RequestRow(**request_columns(request, values), created_at=case.created_at))
            _add_events(session, case.id, change.events, case.updated_at, values)
            webhook_outbox.add_deliveries(session, change)
            created = audit.Entry(by, "case.created", case.id, {"profile": case.profile})
            audit.append(session, case.created_at, [created])
        return None

    @in_a_thread
    def request(self, key: str) -> StoredRequest | None:
        """The earlier request with that Idempotency-Key, or None."""
        return self._find_request(key)

    def _find_request(self, key: str) -> StoredRequest | None:
        with self._reading() as session:
            row = session.get(RequestRow, key)
            return self._request(session, row) if row else None

    @in_a_thread
    def delete(self, case_id: str) -> None:
        """Delete a case whose creation failed, so that it was never acknowledged."""
        with self._writing() as session:
            row = session.get(CaseRow, case_id)
            if row is not None:
                now = datetime.now(UTC)
                session.delete(row)
                audit.append(session, now, [audit.Entry(audit.SERVICE, "case.taken_back", case_id)])

    @in_a_thread
    def get(self, case_id: str) -> Case:
        """The case with that id. Raises UnknownCaseError."""
        if not is_case_id(case_id):
            raise UnknownCaseError("No case has this id.")
        with self._reading() as session:
            row = session.get(CaseRow, case_id)
        if row is None:
            raise UnknownCaseError("No case has this id.")
        return self._case(row)

    @in_a_thread
    def change(
        self,
        case_id: str,
        transition: Callable[[Case], C],
        *,
        upload: Callable[[Case], Upload] | None = None,
        before: Sequence[Event] = (),
        by: str = audit.SERVICE,
    ) -> C:
        """Apply a transition in one transaction. Returns its result, once the change is durable.

        transition: returns a change, or None to leave the case as it is. It is called again if another writer changed
        the case first. upload: builds the upload to store, from the changed case. before: events to store before those
        of the change. by: the actor, for the audit log. Raises UnknownCaseError, StoreUnavailableError, and
        ForgottenError for a change of a redacted case.
        """
        for _ in range(_REVISION_TRIES):
            try:
                change = self._change_once(case_id, transition, upload, before, by)
            except ConflictError:
                continue  # another writer was faster: the transition sees their change next time
            if change is not None:
                self._notify(case_id)
            return change
        raise StoreUnavailableError("Too many requests change this case at once. Try again.")

    def _change_once(
        self,
        case_id: str,
        transition: Callable[[Case], C],
        upload: Callable[[Case], Upload] | None,
        before: Sequence[Event],
        by: str,
    ) -> C:
        """One try of `change`. Raises ConflictError if another writer was faster; nothing is stored then."""
        with self._writing() as session:
            row = session.get(CaseRow, case_id)
            if row is None:
                raise UnknownCaseError("No case has this id.")
            sealing = self._values(row)
            change = transition(case_of(row, sealing))
            if change is None:
                return change
            if sealing is None:
                raise ForgottenError("The case was redacted. Its personal data no longer exists.")
            fresh = (CaseRow.id == case_id) & (CaseRow.revision == row.revision)
            values = {"revision": row.revision + 1, **columns_of(change.case, sealing)}
            session.expunge(row)
            done = session.execute(update(CaseRow).where(fresh).values(**values))
            if done.rowcount != 1:  # type: ignore[attr-defined]  # an UPDATE returns a CursorResult
                raise ConflictError("Another request changed this case first. Read it again, then repeat the request.")
            if upload is not None:
                session.add(UploadRow(**upload_columns(upload(change.case), sealing)))
                session.flush()
            _add_events(session, case_id, (*before, *change.events), change.case.updated_at, sealing)
            webhook_outbox.add_deliveries(session, change)
            audit.append(session, change.case.updated_at, audit.entries_of(change, by))
        return change

    @in_a_thread
    def add_events(self, events: Sequence[tuple[str, Event]], now: datetime) -> None:
        """Store events that change no case, in one transaction. Events of unknown and of erased cases are dropped."""
        with self._writing() as session:
            ids = {case_id for case_id, _ in events}
            query = select(CaseRow.id, CaseRow.key_id, CaseRow.data_key).where(CaseRow.id.in_(ids)).order_by(CaseRow.id)
            # Locked as in `change`: of two simultaneous writers on PostgreSQL, the one that commits later could have
            # the lower event ids, and a reader that is past them would miss them. Ordered, to avoid a deadlock.
            query = query.with_for_update(key_share=True)
            known = {row.id: values for row in session.execute(query) if (values := self._values(row)) is not None}
            for case_id, item in events:
                if case_id in known:
                    _add_events(session, case_id, (item,), now, known[case_id])
        for case_id in known:
            self._notify(case_id)

    @in_a_thread
    def events(self, case_id: str, after: int = 0) -> list[StoredEvent]:
        """The events of a case after the id `after`, oldest first."""
        query = select(EventRow).where(EventRow.case_id == case_id, EventRow.id > after).order_by(EventRow.id)
        with self._reading() as session:
            rows = (session.scalars(query)).all()
            values = self._values(data_keys.key_row(session, case_id)) if rows else None
        return [event_of(row, values) for row in rows] if values else []

    @in_a_thread
    def uploads(self, case_id: str) -> list[Upload]:
        """All uploads of a case, oldest first."""
        query = select(UploadRow).where(UploadRow.case_id == case_id).order_by(UploadRow.received_at, UploadRow.id)
        with self._reading() as session:
            rows = (session.scalars(query)).all()
            values = self._values(data_keys.key_row(session, case_id)) if rows else None
        return [upload_of(row, values) for row in rows] if values else []

    @in_a_thread
    def evidence_keys(self) -> set[str]:
        """The evidence keys of all uploads, and of the pieces of unfinished resumable uploads."""
        with self._reading() as session:
            return {*session.scalars(select(UploadRow.evidence_key)), *session.scalars(select(PieceRow.evidence_key))}

    @in_a_thread
    def overdue(self, now: datetime, uploaded_before: datetime) -> list[Case]:
        """Cases past their expiry that lack uploads, and complete cases that wait for a decision since
        `uploaded_before`.
        """
        expired = (CaseRow.status == "requires_input") & (CaseRow.expires_at <= now)
        stuck = (CaseRow.status == "processing") & (CaseRow.last_received_at <= uploaded_before)
        with self._reading() as session:
            rows = (session.scalars(select(CaseRow).where(expired | stuck).order_by(CaseRow.id))).all()
        return [self._case(row) for row in rows]

    @in_a_thread
    def page(self, wanted: CaseFilter, limit: int, after: str | None) -> tuple[list[ListedCase], bool]:
        """At most `limit` matching cases older than the case `after`, newest first; and whether there are more."""
        with self._reading() as session:
            rows = session.execute(page_query(wanted, limit + 1, after)).all()
        # A redacted case must not hide the others on its page.
        return [listed(row, self._values(row) if row.data_key else None) for row in rows[:limit]], len(rows) > limit

    @in_a_thread
    def processing(self) -> int:
        """The number of cases that have all their uploads and no decision."""
        with self._reading() as session:
            query = select(func.count()).select_from(CaseRow).where(CaseRow.status == "processing")
            return int((session.scalars(query)).one())

    @in_a_thread
    def status_of(self, case_ids: Sequence[str]) -> dict[str, tuple[str, str, datetime]]:
        """Status, owner and time of the last change of each case; unknown ids are left out."""
        found: dict[str, tuple[str, str, datetime]] = {}
        query = select(CaseRow.id, CaseRow.status, CaseRow.replica, CaseRow.updated_at)
        with self._reading() as session:
            for start in range(0, len(case_ids), _AT_ONCE):
                part = query.where(CaseRow.id.in_(case_ids[start : start + _AT_ONCE]))
                for case_id, status, replica, at in (session.execute(part)).all():
                    found[case_id] = (status, replica, at)
        return found

    @in_a_thread
    def cases_with_events_after(self, last: int) -> tuple[int, set[str]]:
        """The id of the last event read, and the cases with events after the id `last`. Reads at most 1000 events.

        If `last` is negative: the id of the newest event, and no cases.
        """
        with self._reading() as session:
            if last < 0:
                return int((session.scalars(select(func.max(EventRow.id)))).one() or 0), set()
            query = select(EventRow.id, EventRow.case_id).where(EventRow.id > last).order_by(EventRow.id).limit(1000)
            rows = (session.execute(query)).all()
        return (rows[-1][0] if rows else last), {case_id for _, case_id in rows}

    # --- the keys ---

    def _values(self, row: data_keys.Keyed) -> Values | None:
        """The cipher of a case's values; None for a redacted case."""
        return Values(data_keys.data_key(row, self._keyring)) if row.data_key is not None else None

    def _request(self, session: Session, row: RequestRow) -> StoredRequest:
        return request_of(row, Values(data_keys.data_key(data_keys.key_row(session, row.case_id), self._keyring)))

    def _case(self, row: CaseRow) -> Case:
        return case_of(row, self._values(row))

    @in_a_thread
    def data_key(self, case_id: str) -> bytes:
        """The data key of a case. Raises UnknownCaseError, ForgottenError, KeyMissingError."""
        with self._reading() as session:
            return data_keys.data_key(data_keys.key_row(session, case_id), self._keyring)

    @in_a_thread
    def keys_wrapped_by_others(self) -> int:
        """The number of data keys that another encryption key than the first wraps."""
        with self._reading() as session:
            return data_keys.wrapped_by_others(session, self._keyring)

    @in_a_thread
    def reseal(self, most: int) -> int:
        """Wrap up to `most` of these data keys again, with the first key. Returns how many.

        Raises KeyMissingError; then none was changed.
        """
        with self._writing() as session:
            return data_keys.rewrap(session, self._keyring, most)


def _add_events(session: Session, case_id: str, events: Sequence[Event], now: datetime, values: Values) -> None:
    if events:
        rows = [event_columns(case_id, event, now, values) for event in events]
        dialect = session.get_bind().dialect.name
        insert = postgresql.insert if dialect == "postgresql" else sqlite.insert
        session.execute(insert(EventRow).on_conflict_do_nothing(index_elements=["case_id", "once"]), rows)
