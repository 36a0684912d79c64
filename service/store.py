"""The case store: cases, uploads and events in SQL. Each change is one transaction, applied to the revision it was made
from, so that of two simultaneous uploads one wins and a decision is recorded exactly once, whoever writes.

SQLite runs in WAL mode with `synchronous=FULL`: what was committed survives a power cut. It does not hold media
(`service.evidence`) nor decide what a change is (`service.lifecycle`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, event, insert, select, text, update
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

from graphs.records import Step
from service.errors import StepTakenError, StoreUnavailableError, UnknownCaseError
from service.identifiers import is_case_id
from service.lifecycle import OPEN, Case, Change, Event
from service.tables import Base, CaseRow, EventRow, RequestRow, UploadRow
from service.wire import CHECKS, RECORDED, STEPS, jsonable

_BUSY_MS = 5000
_REVISION_TRIES = 10


@dataclass(frozen=True)
class Upload:
    """One accepted media and where the evidence has it. info: what the probe learned, as JSON."""

    id: str
    case_id: str
    step: Step
    attempt: int
    evidence_key: str
    sha256: str
    info: Mapping[str, Any]
    received_at: datetime


@dataclass(frozen=True)
class StoredEvent:
    """An event with its place in the order of the case."""

    id: int
    case_id: str
    type: str
    data: Mapping[str, Any]
    at: datetime


@dataclass(frozen=True)
class StoredRequest:
    """A request under its Idempotency-Key, and the answer that it got."""

    key: str
    fingerprint: str
    case_id: str
    answer: Mapping[str, Any]


class Store:
    """The case store at a SQLAlchemy URL. `told` is called with the case id after events were committed."""

    def __init__(self, url: str, told: Callable[[str], None]) -> None:
        self._engine = create_async_engine(url, pool_pre_ping=not url.startswith("sqlite"))
        self._sessions = async_sessionmaker(self._engine, expire_on_commit=False)
        self._told = told
        if self._engine.dialect.name == "sqlite":
            _tune_sqlite(self._engine.sync_engine)

    async def start(self) -> None:
        """Make the tables that are absent. Raises StoreUnavailableError."""
        async with _unavailable_is_said(), self._engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)

    async def close(self) -> None:
        """Give back all connections."""
        await self._engine.dispose()

    async def check(self) -> None:
        """Touch the database. Raises StoreUnavailableError."""
        async with _unavailable_is_said(), self._engine.connect() as connection:
            await connection.execute(text("SELECT 1"))

    async def create(self, change: Change, request: StoredRequest | None = None) -> StoredRequest | None:
        """Store a new case with its first events.

        With a request whose key is known already nothing is stored, and the earlier request is given back.
        """
        case = change.case
        async with self._writing() as session:
            if request is not None:
                known = await session.get(RequestRow, request.key)
                if known is not None:
                    return StoredRequest(known.key, known.fingerprint, known.case_id, known.answer)
            session.add(CaseRow(id=case.id, revision=0, **_columns(case)))
            await session.flush()  # the rows below refer to it
            if request is not None:
                session.add(RequestRow(**vars(request), created_at=case.created_at))
            await _add_events(session, case.id, change.events, case.updated_at)
        self._told(case.id)
        return None

    async def request(self, key: str) -> StoredRequest | None:
        """The request that was made under that Idempotency-Key."""
        async with self._reading() as session:
            row = await session.get(RequestRow, key)
        return StoredRequest(row.key, row.fingerprint, row.case_id, row.answer) if row else None

    async def delete(self, case_id: str) -> None:
        """Take back a case that was never acknowledged."""
        async with self._writing() as session:
            row = await session.get(CaseRow, case_id)
            if row is not None:
                await session.delete(row)

    async def get(self, case_id: str) -> Case:
        """The case of that id. Raises UnknownCaseError."""
        if not is_case_id(case_id):
            raise UnknownCaseError("there is no such case")
        async with self._reading() as session:
            row = await session.get(CaseRow, case_id)
        if row is None:
            raise UnknownCaseError("there is no such case")
        return _case(row)

    async def change(
        self,
        case_id: str,
        transition: Callable[[Case], Change | None],
        *,
        upload: Callable[[Case], Upload] | None = None,
        before: Sequence[Event] = (),
    ) -> Change | None:
        """Apply a transition in one transaction; gives what it gave, once that is durable.

        upload: makes, from the changed case, the upload to store with it. before: events to tell ahead of the
        transition's own. The transition may be called again when another writer was faster.
        """
        for _ in range(_REVISION_TRIES):
            async with self._writing() as session:
                row = await session.get(CaseRow, case_id)
                if row is None:
                    raise UnknownCaseError("there is no such case")
                change = transition(_case(row))
                if change is None:
                    return None
                fresh = (CaseRow.id == case_id) & (CaseRow.revision == row.revision)
                values = {"revision": row.revision + 1, **_columns(change.case)}
                session.expunge(row)
                done = await session.execute(update(CaseRow).where(fresh).values(**values))
                if done.rowcount != 1:  # type: ignore[attr-defined]  # an UPDATE gives a CursorResult
                    await session.rollback()
                    continue
                if upload is not None:
                    session.add(UploadRow(**_upload_columns(upload(change.case))))
                    await session.flush()
                await _add_events(session, case_id, (*before, *change.events), change.case.updated_at)
            self._told(case_id)
            return change
        raise StoreUnavailableError("the case is changed too often at once")

    async def tell(self, events: Sequence[tuple[str, Event]], now: datetime) -> None:
        """Store events that change no case, in one transaction. Events of unknown cases are dropped."""
        async with self._writing() as session:
            ids = {case_id for case_id, _ in events}
            known = set((await session.scalars(select(CaseRow.id).where(CaseRow.id.in_(ids)))).all())
            for case_id, item in events:
                if case_id in known:
                    await _add_events(session, case_id, (item,), now)
        for case_id in known:
            self._told(case_id)

    async def events(self, case_id: str, after: int = 0) -> list[StoredEvent]:
        """The events of a case past the id `after`, oldest first."""
        query = select(EventRow).where(EventRow.case_id == case_id, EventRow.id > after).order_by(EventRow.id)
        async with self._reading() as session:
            rows = (await session.scalars(query)).all()
        return [StoredEvent(row.id, row.case_id, row.type, row.data, row.at) for row in rows]

    async def uploads(self, case_id: str) -> list[Upload]:
        """All uploads of a case, oldest first."""
        query = select(UploadRow).where(UploadRow.case_id == case_id).order_by(UploadRow.received_at, UploadRow.id)
        async with self._reading() as session:
            rows = (await session.scalars(query)).all()
        return [_upload(row) for row in rows]

    async def evidence_keys(self) -> set[str]:
        """Where the evidence of every upload is."""
        async with self._reading() as session:
            return set((await session.scalars(select(UploadRow.evidence_key))).all())

    async def open_cases(self) -> list[Case]:
        """All cases that can still change by themselves, oldest first."""
        query = select(CaseRow).where(CaseRow.status.in_(OPEN)).order_by(CaseRow.id)
        async with self._reading() as session:
            return [_case(row) for row in (await session.scalars(query)).all()]

    async def overdue(self, now: datetime, uploaded_before: datetime) -> list[Case]:
        """Cases past their expiry without all uploads, and cases without a decision since before `uploaded_before`."""
        expired = (CaseRow.status == "requires_input") & (CaseRow.expires_at <= now)
        stuck = (CaseRow.status == "processing") & (CaseRow.last_received_at <= uploaded_before)
        async with self._reading() as session:
            rows = (await session.scalars(select(CaseRow).where(expired | stuck).order_by(CaseRow.id))).all()
        return [_case(row) for row in rows]

    @asynccontextmanager
    async def _reading(self) -> AsyncIterator[AsyncSession]:
        async with _unavailable_is_said(), self._sessions() as session:
            yield session

    @asynccontextmanager
    async def _writing(self) -> AsyncIterator[AsyncSession]:
        async with _unavailable_is_said(), self._sessions() as session:
            # A transaction that reads first and writes later would fail instead of waiting when another one writes.
            await session.connection(execution_options={"veridask_writes": True})
            yield session
            await session.commit()


@asynccontextmanager
async def _unavailable_is_said() -> AsyncIterator[None]:
    try:
        yield
    except IntegrityError as error:
        raise StepTakenError("another request was faster") from error
    except (DBAPIError, OSError, TimeoutError) as error:
        raise StoreUnavailableError("the case store does not answer or is full") from error


def _tune_sqlite(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def _connected(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # transactions begin below, not where the driver thinks best
        cursor = connection.cursor()
        pragmas = ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", f"busy_timeout={_BUSY_MS}")
        for pragma in pragmas:
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begun(connection: Connection) -> None:
        writes = connection.get_execution_options().get("veridask_writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


async def _add_events(session: AsyncSession, case_id: str, events: Sequence[Event], now: datetime) -> None:
    if events:
        rows = [{"case_id": case_id, "type": e.type, "data": jsonable(e.data), "at": now} for e in events]
        await session.execute(insert(EventRow), rows)


def _columns(case: Case) -> dict[str, Any]:
    return {
        "profile": case.profile,
        "status": case.status,
        "client_reference_id": case.client_reference_id,
        "case_metadata": dict(case.metadata),
        "challenge": list(case.challenge),
        "secret_hash": case.secret_hash,
        "max_attempts": case.max_attempts,
        "steps": jsonable(case.steps),
        "checks": jsonable(case.checks),
        "recorded": jsonable(case.recorded),
        "created_at": case.created_at,
        "updated_at": case.updated_at,
        "expires_at": case.expires_at,
        "last_received_at": case.last_received_at,
    }


def _case(row: CaseRow) -> Case:
    return Case(
        id=row.id,
        profile=row.profile,
        status=row.status,  # type: ignore[arg-type]
        client_reference_id=row.client_reference_id,
        metadata=row.case_metadata,
        challenge=tuple(row.challenge),
        secret_hash=row.secret_hash,
        max_attempts=row.max_attempts,
        created_at=row.created_at,
        updated_at=row.updated_at,
        expires_at=row.expires_at,
        steps=STEPS.validate_python(row.steps),  # type: ignore[arg-type]
        last_received_at=row.last_received_at,
        recorded=RECORDED.validate_python(row.recorded) if row.recorded else None,
        checks=CHECKS.validate_python(row.checks),
    )


def _upload_columns(upload: Upload) -> dict[str, Any]:
    return {**vars(upload), "info": jsonable(upload.info)}


def _upload(row: UploadRow) -> Upload:
    return Upload(
        id=row.id,
        case_id=row.case_id,
        step=row.step,  # type: ignore[arg-type]
        attempt=row.attempt,
        evidence_key=row.evidence_key,
        sha256=row.sha256,
        info=row.info,
        received_at=row.received_at,
    )
