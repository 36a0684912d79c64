"""The audit log: who did what, when, to which case; one line after the other, each with a hash over itself and the line
before (RFC 6962 calls such a log append-only; this is a plain chain, because it is read as a whole).

A line is written in the transaction that does what it says, so that neither is there without the other. It names keys,
cases, steps and outcomes, and nothing that a person said or showed: it outlives the person's data. Triggers refuse to
change or delete lines (`service.store.migrations`). Who owns the database can take that away and write another chain:
so the service logs the newest line's hash from time to time, and `veridask audit verify --anchor` holds the chain
against it.
"""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import structlog
from sqlalchemy import select
from sqlalchemy.orm import Session

from service.errors import AuditBrokenError
from service.lifecycle.case import Change, Recorded
from service.store.database import Database, in_a_thread
from service.store.tables import AuditHeadRow, AuditRow

log = structlog.get_logger()

SERVICE = "service"
"""Who acts when nobody asked: expiry, retention, the policy's decision."""
_FIRST = "0" * 64
"""What stands before the first line."""
_NO_HEAD = "what says how many lines there are is missing"
_ENDS = ("canceled", "expired", "redacted")
_AT_ONCE = 1000


@dataclass(frozen=True)
class Entry:
    """Something done. actor: id of an API key, `client_secret`, `service`, or the command line's user; action: such as
    `case.created`; details: JSON's types, nothing of a person.
    """

    actor: str
    action: str
    case_id: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Line:
    """An entry in its place. number: from 1, without gaps; hash: SHA-256 of the line and of the one before."""

    number: int
    at: datetime
    entry: Entry
    hash: str


@dataclass(frozen=True)
class Anchor:
    """What a line's hash was seen to be."""

    number: int
    hash: str


def person() -> str:
    """Who works at this machine, for what the command line and notebooks do."""
    return f"user:{getpass.getuser()}"[:80]


def entries_of(change: Change, actor: str) -> list[Entry]:
    """What a change of a case says in the log: uploads, a decision, an end. actor: who asked for it."""
    case, entries = change.case, []
    for event in change.events:
        if event.type == "step" and event.data["state"] == "received":
            details: dict[str, Any] = {"step": event.data["step"], "attempt": event.data["attempt"]}
            entries.append(Entry(actor, "upload.received", case.id, details))
        elif event.type == "decision" and case.recorded is not None:
            entries.append(_decided(case.id, case.recorded, actor))
        elif event.type == "status" and event.data["status"] in _ENDS:
            entries.append(Entry(actor, f"case.{event.data['status']}", case.id))
    return entries


def _decided(case_id: str, recorded: Recorded, actor: str) -> Entry:
    """By the policy, the deadline, or a person: his words are left out, the codes that he gave are not."""
    decision, review = recorded.decision, recorded.review
    details: dict[str, Any] = {"outcome": decision.outcome, "policy_version": decision.policy_version}
    if review is None:
        return Entry(actor, "case.decided", case_id, {**details, "decided_by": recorded.decided_by})
    said = {"reasons": [reason.code for reason in decision.reasons], "retake": list(decision.retake)}
    before = {"before": review.replaced.decision.outcome, "before_by": review.replaced.decided_by}
    return Entry(actor, "case.reviewed", case_id, {**details, **said, **before})


def chained(before: str, number: int, at: datetime, entry: Entry) -> str:
    """The hash of a line after one of the hash `before`: SHA-256, hexadecimal, of its parts as canonical JSON."""
    moment = at.astimezone(UTC).isoformat(timespec="microseconds")
    parts = [before, number, moment, entry.actor, entry.action, entry.case_id, dict(entry.details)]
    return hashlib.sha256(json.dumps(parts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def append(session: Session, at: datetime, entries: Sequence[Entry]) -> None:
    """Write lines in the session's transaction. Call it last: from here to the commit others who write lines wait.

    Raises AuditBrokenError when the row is gone that they wait for, which was made with the tables.
    """
    if not entries:
        return
    head = session.get(AuditHeadRow, 1, with_for_update=True, populate_existing=True)
    if head is None:
        raise AuditBrokenError(_NO_HEAD)
    for entry in entries:
        head.number, head.hash = head.number + 1, chained(head.hash, head.number + 1, at, entry)
        session.add(
            AuditRow(
                number=head.number,
                at=at,
                actor=entry.actor,
                action=entry.action,
                case_id=entry.case_id,
                details=dict(entry.details),
                hash=head.hash,
            )
        )


def _line(row: AuditRow) -> Line:
    return Line(row.number, row.at, Entry(row.actor, row.action, row.case_id, row.details), row.hash)


def _head(session: Session) -> Anchor:
    row = session.get(AuditHeadRow, 1)
    if row is None:
        raise AuditBrokenError(_NO_HEAD)
    return Anchor(row.number, row.hash)


class AuditLog:
    """The audit log in the case store's database. Each call raises StoreUnavailableError, and AuditBrokenError when the
    row is gone that says which line is the newest.
    """

    def __init__(self, database: Database) -> None:
        self._logged = 0
        self.threads = database.threads
        self._reading, self._writing = database.reading, database.writing

    @in_a_thread
    def record(self, at: datetime, entry: Entry) -> None:
        """Write one line about something that changes nothing in the store, such as that evidence is read."""
        with self._writing() as session:
            append(session, at, [entry])

    @in_a_thread
    def page(self, limit: int, before: int | None = None, case_id: str | None = None) -> list[Line]:
        """The newest lines, those before a number, of one case where it is given; at most `limit`."""
        query = select(AuditRow).order_by(AuditRow.number.desc()).limit(limit)
        if before is not None:
            query = query.where(AuditRow.number < before)
        if case_id is not None:
            query = query.where(AuditRow.case_id == case_id)
        with self._reading() as session:
            return [_line(row) for row in session.scalars(query)]

    @in_a_thread
    def head(self) -> Anchor:
        """The newest line; number 0 without any."""
        with self._reading() as session:
            return _head(session)

    async def log_head(self, _now: datetime) -> None:
        """Log the newest line when there is a new one, as an anchor that lies outside the database.

        Raises StoreUnavailableError.
        """
        try:
            head = await self.head()
        except AuditBrokenError as error:
            log.error("audit_broken", detail=error.detail)
            return
        if head.number > self._logged:
            log.info("audit_head", number=head.number, hash=head.hash)
            self._logged = head.number

    def verified(self, anchors: Sequence[Anchor] = ()) -> Iterator[Line]:
        """All lines from the first, each proved as it is given. Blocks.

        Raises AuditBrokenError at the first line that is missing, changed or out of place, when lines are missing at
        the end, and when a line is not that of an anchor.
        """
        wanted = {anchor.number: anchor.hash for anchor in anchors}
        before = Anchor(0, _FIRST)
        with self._reading() as session:
            end = _head(session)
            # Up to there: lines that are written meanwhile are not lines too many.
            query = select(AuditRow).where(AuditRow.number <= end.number).order_by(AuditRow.number)
            with contextlib.closing(session.scalars(query.execution_options(yield_per=_AT_ONCE))) as rows:
                for line in map(_line, rows):
                    if line.number != before.number + 1:
                        raise AuditBrokenError(f"Line {before.number + 1} is missing.")
                    if line.hash != chained(before.hash, line.number, line.at, line.entry):
                        raise AuditBrokenError(f"Line {line.number}, or a line before it, was changed.")
                    if line.hash != wanted.pop(line.number, line.hash):
                        raise AuditBrokenError(f"Line {line.number} differs from its anchor: the log was rewritten.")
                    before = Anchor(line.number, line.hash)
                    yield line
        if end != before or wanted:
            raise AuditBrokenError(f"The lines after line {before.number} are missing.")
