"""The audit log: who did what, when, to which case.

Each line has a hash of itself and of the line before. (RFC 6962 describes such append-only logs; this one is a plain
chain, because it is always read as a whole.)

A line is written in the same transaction as the action that it records, so that neither exists without the other. It
names API keys, cases, steps and outcomes, but no personal data, because it outlives that data. Triggers refuse changes
and deletions (`service.store.migrations`). The owner of the database can remove the triggers and write a new chain. So
the service logs the hash of the newest line from time to time, and `veridask audit verify --anchor` compares the chain
with it.
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
"""The actor of what the service does by itself: expiry, retention, decisions of the policy."""
_FIRST = "0" * 64
"""Takes the place of the hash before the first line."""
_NO_HEAD = "what says how many lines there are is missing"
_ENDS = ("canceled", "expired", "redacted")
_AT_ONCE = 1000


@dataclass(frozen=True)
class Entry:
    """An action.

    actor: id of an API key, `client_secret`, `service`, or the user of the command line. action: such as
    `case.created`. details: JSON types, no personal data.
    """

    actor: str
    action: str
    case_id: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Line:
    """An entry in the log.

    number: from 1, without gaps. hash: SHA-256 over this line and the hash of the one before.
    """

    number: int
    at: datetime
    entry: Entry
    hash: str


@dataclass(frozen=True)
class Anchor:
    """The hash that a line had earlier, for comparison."""

    number: int
    hash: str


def person() -> str:
    """The actor for the command line and notebooks: the user of this machine."""
    return f"user:{getpass.getuser()}"[:80]


def entries_of(change: Change, actor: str) -> list[Entry]:
    """The entries for a change of a case: uploads, a decision, the end of the case. actor: who asked for it."""
    case, entries = change.case, []
    for event in change.events:
        if event.type == "step" and event.data["state"] == "received":
            details: dict[str, Any] = {"step": event.data["step"], "attempt": event.data["attempt"]}
            entries.append(Entry(actor, "upload.received", case.id, details))
        elif event.type == "decision" and case.recorded is not None:
            entries.append(_decision_entry(case.id, case.recorded, actor))
        elif event.type == "status" and event.data["status"] in _ENDS:
            entries.append(Entry(actor, f"case.{event.data['status']}", case.id))
    return entries


def _decision_entry(case_id: str, recorded: Recorded, actor: str) -> Entry:
    """A decision by the policy, the deadline or a reviewer. Holds the codes that a reviewer gave, but not their
    comment.
    """
    decision, review = recorded.decision, recorded.review
    details: dict[str, Any] = {"outcome": decision.outcome, "policy_version": decision.policy_version}
    if review is None:
        return Entry(actor, "case.decided", case_id, {**details, "decided_by": recorded.decided_by})
    review_details = {"reasons": [reason.code for reason in decision.reasons], "retake": list(decision.retake)}
    before = {"before": review.replaced.decision.outcome, "before_by": review.replaced.decided_by}
    return Entry(actor, "case.reviewed", case_id, {**details, **review_details, **before})


def line_hash(before: str, number: int, at: datetime, entry: Entry) -> str:
    """The hash of a line: SHA-256 (hexadecimal) of its parts as canonical JSON. before: the hash of the line before."""
    moment = at.astimezone(UTC).isoformat(timespec="microseconds")
    parts = [before, number, moment, entry.actor, entry.action, entry.case_id, dict(entry.details)]
    return hashlib.sha256(json.dumps(parts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def append(session: Session, at: datetime, entries: Sequence[Entry]) -> None:
    """Write lines in the transaction of the session. Call this last: until the commit, all other writers of lines wait.

    Raises AuditBrokenError if the row that they lock is missing; it was created with the tables.
    """
    if not entries:
        return
    head = session.get(AuditHeadRow, 1, with_for_update=True, populate_existing=True)
    if head is None:
        raise AuditBrokenError(_NO_HEAD)
    for entry in entries:
        head.number, head.hash = head.number + 1, line_hash(head.hash, head.number + 1, at, entry)
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
    """The audit log in the case store's database.

    Each method raises StoreUnavailableError, and AuditBrokenError if the row with the number of the newest line is
    missing.
    """

    def __init__(self, database: Database) -> None:
        self._logged = 0
        self.threads = database.threads
        self._reading, self._writing = database.reading, database.writing

    @in_a_thread
    def record(self, at: datetime, entry: Entry) -> None:
        """Write one line for an action that changes nothing in the store, such as reading evidence."""
        with self._writing() as session:
            append(session, at, [entry])

    @in_a_thread
    def page(self, limit: int, before: int | None = None, case_id: str | None = None) -> list[Line]:
        """At most `limit` lines, newest first.

        before: only lines with lower numbers. case_id: only lines of that case.
        """
        query = select(AuditRow).order_by(AuditRow.number.desc()).limit(limit)
        if before is not None:
            query = query.where(AuditRow.number < before)
        if case_id is not None:
            query = query.where(AuditRow.case_id == case_id)
        with self._reading() as session:
            return [_line(row) for row in session.scalars(query)]

    @in_a_thread
    def head(self) -> Anchor:
        """Number and hash of the newest line; the number is 0 if there is none."""
        with self._reading() as session:
            return _head(session)

    async def log_head(self, _now: datetime) -> None:
        """Log the hash of the newest line, if it is new, as an anchor outside the database.

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
        """Yield all lines in order, each after it was verified. Blocks.

        Raises AuditBrokenError at the first line that is missing, changed, out of order or different from an anchor,
        and if lines are missing at the end.
        """
        wanted = {anchor.number: anchor.hash for anchor in anchors}
        before = Anchor(0, _FIRST)
        with self._reading() as session:
            end = _head(session)
            # Only up to there: lines that are written in the meantime are not an error.
            query = select(AuditRow).where(AuditRow.number <= end.number).order_by(AuditRow.number)
            with contextlib.closing(session.scalars(query.execution_options(yield_per=_AT_ONCE))) as rows:
                for line in map(_line, rows):
                    if line.number != before.number + 1:
                        raise AuditBrokenError(f"Line {before.number + 1} is missing.")
                    if line.hash != line_hash(before.hash, line.number, line.at, line.entry):
                        raise AuditBrokenError(f"Line {line.number}, or a line before it, was changed.")
                    if line.hash != wanted.pop(line.number, line.hash):
                        raise AuditBrokenError(f"Line {line.number} differs from its anchor: the log was rewritten.")
                    before = Anchor(line.number, line.hash)
                    yield line
        if end != before or wanted:
            raise AuditBrokenError(f"The lines after line {before.number} are missing.")
