"""Resumable uploads in the database of the case store: the offset of each, and where its pieces are.

Bytes count once their piece is stored and the offset was moved past it by compare-and-set. So if two requests write the
same bytes one wins, whichever API processes they reach. An upload is accepted when `uploads` has a row with its id:
case and upload change at the same moment.

The pieces themselves are in the evidence; `service.uploads.resumable` receives and assembles them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Select, delete, exists, func, insert, select, update

from graphs.records import Step
from service.errors import UploadEndedError, UploadOffsetError, UploadPiecesError
from service.lifecycle.identifiers import is_id
from service.store.database import Database, in_a_thread
from service.store.tables import CaseRow, PieceRow, ResumableRow, UploadRow
from service.vocabulary import OPEN

_MAX_PER_STEP = 3
"""Unfinished uploads per step. One more ends the oldest: a client that lost its URL will not continue it."""
_REMEMBERED = timedelta(days=1)
"""How long an expired upload is still distinguished from an unknown one."""
_AT_ONCE = 500


@dataclass(frozen=True)
class Resumable:
    """A resumable upload.

    length, offset: in bytes. accepted: it is complete and is now an upload of the case. ended: it takes no more bytes.
    """

    id: str
    case_id: str
    step: str
    media_type: str
    length: int
    offset: int
    expires_at: datetime
    accepted: bool
    ended: bool


@dataclass(frozen=True)
class Piece:
    """The bytes from `start` up to, not including, `end`; stored in the evidence under `key`."""

    start: int
    end: int
    key: str


class ResumableStore:
    """Resumable uploads and their pieces. Each method raises StoreUnavailableError."""

    def __init__(self, database: Database) -> None:
        self.threads = database.threads
        self._reading, self._writing = database.reading, database.writing

    @in_a_thread
    def add(self, upload: Resumable, now: datetime) -> int:
        """Store a new upload.

        Each step keeps at most three unfinished uploads; the oldest end. Returns how many ended.
        """
        same = (ResumableRow.case_id == upload.case_id) & (ResumableRow.step == upload.step)
        with self._writing() as session:
            unfinished = select(ResumableRow.id).where(same, ResumableRow.ended_at.is_(None), ~_accepted())
            newest_first = unfinished.order_by(ResumableRow.id.desc()).offset(_MAX_PER_STEP - 1)
            surplus = session.scalars(newest_first).all()
            session.execute(update(ResumableRow).where(ResumableRow.id.in_(surplus)).values(ended_at=now))
            session.add(
                ResumableRow(
                    id=upload.id,
                    case_id=upload.case_id,
                    step=upload.step,
                    media_type=upload.media_type,
                    length=upload.length,
                    offset=upload.offset,
                    created_at=now,
                    expires_at=upload.expires_at,
                    ended_at=None,
                )
            )
        return len(surplus)

    @in_a_thread
    def get(self, upload_id: str, now: datetime) -> Resumable | None:
        """The upload with that id and its current offset; None if it is unknown."""
        if not is_id("upload", upload_id):
            return None
        query = select(ResumableRow, _accepted().label("accepted")).where(ResumableRow.id == upload_id)
        with self._reading() as session:
            found = session.execute(query).one_or_none()
        if found is None:
            return None
        row, accepted = found
        ended = not accepted and (row.ended_at is not None or row.expires_at <= now)
        offset = row.length if accepted else row.offset
        return Resumable(
            row.id, row.case_id, row.step, row.media_type, row.length, offset, row.expires_at, accepted, ended
        )

    @in_a_thread
    def append(self, upload_id: str, pieces: Sequence[Piece], most: int, now: datetime, until: datetime) -> None:
        """Move the offset past stored pieces, which are contiguous, and extend the expiry to `until`.

        most: the number of pieces that an upload may have. Raises UploadOffsetError if the offset is not at the start
        of the first piece, UploadPiecesError for too many pieces, and UploadEndedError.
        """
        with self._writing() as session:
            goes_on = (ResumableRow.id == upload_id) & ResumableRow.ended_at.is_(None) & (ResumableRow.expires_at > now)
            moved = update(ResumableRow).where(goes_on, ResumableRow.offset == pieces[0].start)
            done = session.execute(moved.values(offset=pieces[-1].end, expires_at=until))
            if done.rowcount != 1:  # type: ignore[attr-defined]  # an UPDATE returns a CursorResult
                if session.scalars(select(ResumableRow.id).where(goes_on)).one_or_none() is None:
                    raise UploadEndedError("The upload was ended by another request. Begin a new one.")
                raise UploadOffsetError(
                    "Another request wrote these bytes. Ask for the offset with HEAD, then continue there."
                )
            rows = [{"upload_id": upload_id, "start": piece.start, "evidence_key": piece.key} for piece in pieces]
            session.execute(insert(PieceRow), rows)
            count = select(func.count()).select_from(PieceRow).where(PieceRow.upload_id == upload_id)
            if session.scalars(count).one() > most:
                raise UploadPiecesError(
                    f"The upload arrived in more than {most} pieces. Send more bytes in each request."
                )

    @in_a_thread
    def pieces(self, upload_id: str) -> list[str]:
        """The evidence keys of the pieces of an upload, in order."""
        query = select(PieceRow.evidence_key).where(PieceRow.upload_id == upload_id).order_by(PieceRow.start)
        with self._reading() as session:
            return list(session.scalars(query))

    @in_a_thread
    def end(self, upload_id: str, now: datetime) -> None:
        """End an upload. Its pieces can be removed from now on."""
        with self._writing() as session:
            which = (ResumableRow.id == upload_id) & ResumableRow.ended_at.is_(None)
            session.execute(update(ResumableRow).where(which).values(ended_at=now))

    @in_a_thread
    def end_overdue(self, now: datetime) -> list[Step]:
        """End expired uploads and those of closed cases. Delete those that expired a day ago and have no pieces left.

        Returns the step of each upload that ended now and was not accepted.
        """
        closed = select(CaseRow.id).where(CaseRow.status.not_in(OPEN))
        over = (ResumableRow.expires_at <= now) | ResumableRow.case_id.in_(closed)
        with self._writing() as session:
            due = update(ResumableRow).where(ResumableRow.ended_at.is_(None), over).values(ended_at=now)
            ended: list[Step] = list(session.scalars(due.where(~_accepted()).returning(ResumableRow.step)))
            session.execute(due)
            session.execute(
                delete(ResumableRow).where(
                    ResumableRow.expires_at <= now - _REMEMBERED,
                    ~exists().where(PieceRow.upload_id == ResumableRow.id),
                )
            )
        return ended

    @in_a_thread
    def unwanted(self) -> list[str]:
        """Evidence keys of up to 500 pieces that are not needed: their uploads have ended or were accepted."""
        query: Select[str] = select(PieceRow.evidence_key).join(ResumableRow, ResumableRow.id == PieceRow.upload_id)
        with self._reading() as session:
            return list(session.scalars(query.where(ResumableRow.ended_at.is_not(None) | _accepted()).limit(_AT_ONCE)))

    @in_a_thread
    def forget(self, keys: Sequence[str]) -> None:
        """Delete the rows of pieces that were removed from the evidence."""
        with self._writing() as session:
            for start in range(0, len(keys), _AT_ONCE):
                session.execute(delete(PieceRow).where(PieceRow.evidence_key.in_(keys[start : start + _AT_ONCE])))


def _accepted() -> ColumnElement[bool]:
    return exists().where(UploadRow.id == ResumableRow.id).correlate(ResumableRow)
