"""The wrapped data keys in the rows of cases and webhook endpoints: reads them, and wraps them again after a rotation.

Wrapping itself is in `service.crypto.keyring`.
"""

from __future__ import annotations

from typing import Protocol

from sqlalchemy import Select, func, select, update
from sqlalchemy.orm import Session

from service.crypto.keyring import Keyring, WrappedKey
from service.errors import ForgottenError, UnknownCaseError
from service.store.tables import CaseRow, EndpointRow

_KEY_COLUMNS = select(CaseRow.id, CaseRow.key_id, CaseRow.data_key)
_TABLES: tuple[type[CaseRow | EndpointRow], ...] = (CaseRow, EndpointRow)


class Keyed(Protocol):
    """The columns of a row that its data key needs."""

    @property
    def id(self) -> str:
        """The id of the case or endpoint."""
        ...

    @property
    def key_id(self) -> str:
        """The id of the encryption key that wrapped it."""
        ...

    @property
    def data_key(self) -> bytes | None:
        """The wrapped data key; None once it was erased."""
        ...


def data_key(row: Keyed, keyring: Keyring) -> bytes:
    """The unwrapped data key of a row. Raises ForgottenError, KeyMissingError."""
    if row.data_key is None:
        raise ForgottenError("The personal data of this case was erased.")
    return keyring.data_key(WrappedKey(row.key_id, row.data_key), row.id)


def key_row(session: Session, case_id: str) -> Keyed:
    """The key columns of a case. Raises UnknownCaseError."""
    row = session.execute(_KEY_COLUMNS.where(CaseRow.id == case_id)).one_or_none()
    if row is None:
        raise UnknownCaseError("No case has this id.")
    return row


def require_openable(session: Session, keyring: Keyring) -> None:
    """Unwrap one data key per encryption key in use. Raises KeyMissingError if one cannot be unwrapped."""
    for table in _TABLES:
        for key_id in session.scalars(select(table.key_id).where(table.data_key.is_not(None)).distinct()).all():
            data_key(session.execute(_wrapped_keys(table).where(table.key_id == key_id).limit(1)).one(), keyring)


def wrapped_by_others(session: Session, keyring: Keyring) -> int:
    """The number of data keys that another encryption key than the first wraps."""
    counts = [
        select(func.count()).select_from(_wrapped_keys(table).where(table.key_id != keyring.first).subquery())
        for table in _TABLES
    ]
    return sum(session.scalars(count).one() for count in counts)


def rewrap(session: Session, keyring: Keyring, most: int) -> int:
    """Wrap up to `most` of these again, with the first key. Returns how many. Raises KeyMissingError."""
    done = 0
    for table in _TABLES:
        rows = session.execute(_wrapped_keys(table).where(table.key_id != keyring.first).limit(most - done)).all()
        for row in rows:
            again = keyring.wrap(data_key(row, keyring), row.id)
            values = {"key_id": again.key_id, "data_key": again.sealed}
            session.execute(update(table).where(table.id == row.id, table.data_key == row.data_key).values(**values))
        done += len(rows)
    return done


def _wrapped_keys(table: type[CaseRow | EndpointRow]) -> Select[str, str, bytes | None]:
    return select(table.id, table.key_id, table.data_key).where(table.data_key.is_not(None))
