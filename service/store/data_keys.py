"""The data keys of cases and of webhook endpoints in their rows: read, and wrapped again after a rotation.
`service.crypto.keyring` wraps.
"""

from __future__ import annotations

from typing import Protocol

from sqlalchemy import Select, func, select, update
from sqlalchemy.orm import Session

from service.crypto.keyring import Keyring, WrappedKey
from service.errors import ForgottenError, UnknownCaseError
from service.store.tables import CaseRow, EndpointRow

_KEYED = select(CaseRow.id, CaseRow.key_id, CaseRow.data_key)
_TABLES: tuple[type[CaseRow | EndpointRow], ...] = (CaseRow, EndpointRow)


class Keyed(Protocol):
    """What of a row says its data key."""

    @property
    def id(self) -> str:
        """The case, or the endpoint."""
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
        raise ForgottenError("The personal data of this case was erased.")
    return keyring.data_key(WrappedKey(row.key_id, row.data_key), row.id)


def keyed(session: Session, case_id: str) -> Keyed:
    """The row of a case as far as its key goes. Raises UnknownCaseError."""
    row = session.execute(_KEYED.where(CaseRow.id == case_id)).one_or_none()
    if row is None:
        raise UnknownCaseError("No case has this id.")
    return row


def require_known(session: Session, keyring: Keyring) -> None:
    """Open one data key of each encryption key that wrapped some. Raises KeyMissingError when one cannot be opened."""
    for table in _TABLES:
        for key_id in session.scalars(select(table.key_id).where(table.data_key.is_not(None)).distinct()).all():
            data_key(session.execute(_keyed_in(table).where(table.key_id == key_id).limit(1)).one(), keyring)


def wrapped_by_others(session: Session, keyring: Keyring) -> int:
    """How many data keys are wrapped by another encryption key than the first."""
    counts = [
        select(func.count()).select_from(_keyed_in(table).where(table.key_id != keyring.first).subquery())
        for table in _TABLES
    ]
    return sum(session.scalars(count).one() for count in counts)


def rewrap(session: Session, keyring: Keyring, most: int) -> int:
    """Wrap that many of them at most with the first key; gives how many. Raises KeyMissingError."""
    done = 0
    for table in _TABLES:
        rows = session.execute(_keyed_in(table).where(table.key_id != keyring.first).limit(most - done)).all()
        for row in rows:
            again = keyring.wrapped(data_key(row, keyring), row.id)
            values = {"key_id": again.key_id, "data_key": again.sealed}
            session.execute(update(table).where(table.id == row.id, table.data_key == row.data_key).values(**values))
        done += len(rows)
    return done


def _keyed_in(table: type[CaseRow | EndpointRow]) -> Select[str, str, bytes | None]:
    return select(table.id, table.key_id, table.data_key).where(table.data_key.is_not(None))
