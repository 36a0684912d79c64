"""The data key of each case in its row: read, erased, and wrapped again after a rotation. `service.keyring` wraps."""

from __future__ import annotations

from typing import Protocol

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from service.errors import CaseOpenError, ForgottenError, UnknownCaseError
from service.keyring import Keyring, WrappedKey
from service.lifecycle import OPEN
from service.tables import CaseRow

_KEYED = select(CaseRow.id, CaseRow.status, CaseRow.key_id, CaseRow.data_key)


class Keyed(Protocol):
    """What of a case's row says its data key."""

    @property
    def id(self) -> str:
        """The case."""
        ...

    @property
    def key_id(self) -> str:
        """The encryption key that wrapped it."""
        ...

    @property
    def data_key(self) -> bytes | None:
        """The wrapped key; none once it was erased."""
        ...


def data_key(row: Keyed, keyring: Keyring) -> bytes:
    """The data key in a row. Raises ForgottenError, KeyMissingError."""
    if row.data_key is None:
        raise ForgottenError("what spoke of the person of this case was erased")
    return keyring.data_key(WrappedKey(row.key_id, row.data_key), row.id)


def keyed(session: Session, case_id: str) -> Keyed:
    """The row of a case as far as its key goes. Raises UnknownCaseError."""
    row = session.execute(_KEYED.where(CaseRow.id == case_id)).one_or_none()
    if row is None:
        raise UnknownCaseError("there is no such case")
    return row


def require_known(session: Session, keyring: Keyring) -> None:
    """Open one data key of each encryption key that wrapped some. Raises KeyMissingError when one cannot be opened."""
    for key_id in session.scalars(select(CaseRow.key_id).where(CaseRow.data_key.is_not(None)).distinct()).all():
        one = _KEYED.where(CaseRow.key_id == key_id, CaseRow.data_key.is_not(None)).limit(1)
        data_key(session.execute(one).one(), keyring)


def erase(session: Session, case_id: str) -> None:
    """Erase the data key of a case. Raises UnknownCaseError, and CaseOpenError for one that still needs it."""
    row = session.execute(_KEYED.where(CaseRow.id == case_id)).one_or_none()
    if row is None:
        raise UnknownCaseError("there is no such case")
    if row.status in OPEN:
        raise CaseOpenError(f"the case is {row.status}")
    session.execute(update(CaseRow).where(CaseRow.id == case_id).values(key_id="", data_key=None))


def wrapped_by_others(session: Session, keyring: Keyring) -> int:
    """How many data keys are wrapped by another encryption key than the first."""
    others = (CaseRow.key_id != keyring.first) & CaseRow.data_key.is_not(None)
    return int(session.scalars(select(func.count()).select_from(CaseRow).where(others)).one())


def rewrap(session: Session, keyring: Keyring, most: int) -> int:
    """Wrap that many of them at most with the first key; gives how many. Raises KeyMissingError."""
    others = (CaseRow.key_id != keyring.first) & CaseRow.data_key.is_not(None)
    rows = session.execute(_KEYED.where(others).limit(most)).all()
    for row in rows:
        again = keyring.wrapped(data_key(row, keyring), row.id)
        values = {"key_id": again.key_id, "data_key": again.sealed}
        session.execute(update(CaseRow).where(CaseRow.id == row.id, CaseRow.data_key == row.data_key).values(**values))
    return len(rows)
