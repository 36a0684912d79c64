"""Pages of cases: the filter, its query, and the rows that it returns. `service.store.cases` runs the query."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, Select, select

from graphs.profile import is_sandbox
from service.crypto.sealing import Values
from service.lifecycle.identifiers import TIME_ORDERED
from service.store.rows import metadata_of
from service.store.tables import CaseRow
from service.vocabulary import Status

CURSOR = rf"^case_{TIME_ORDERED}$"
"""A page starts after a case id. Ids sort by time, so pages stay stable when cases are added or deleted."""


@dataclass(frozen=True)
class CaseFilter:
    """Conditions on cases; an empty tuple or None means no condition.

    created_from is inclusive, created_before exclusive; both are UTC.
    """

    status: tuple[Status, ...] = ()
    outcome: tuple[str, ...] = ()
    profile: str | None = None
    client_reference_id: str | None = None
    created_from: datetime | None = None
    created_before: datetime | None = None


@dataclass(frozen=True)
class ListedCase:
    """A case as lists return it."""

    id: str
    status: Status
    profile: str
    livemode: bool
    client_reference_id: str | None
    metadata: dict[str, str]
    outcome: str | None
    created_at: datetime
    updated_at: datetime
    expires_at: datetime


def page_query(wanted: CaseFilter, limit: int, after: str | None) -> Select[Any]:
    """The first `limit` cases, newest first, that are older than the case `after`."""
    columns: list[Any] = [
        CaseRow.id,
        CaseRow.status,
        CaseRow.profile,
        CaseRow.client_reference_id,
        CaseRow.case_metadata,
        CaseRow.outcome,
        CaseRow.created_at,
        CaseRow.updated_at,
        CaseRow.expires_at,
        CaseRow.key_id,
        CaseRow.data_key,
    ]
    query: Select[Any] = select(*columns)
    if after is not None:
        query = query.where(CaseRow.id < after)
    if wanted.status:
        query = query.where(CaseRow.status.in_(wanted.status))
    if wanted.outcome:
        query = query.where(CaseRow.outcome.in_(wanted.outcome))
    if wanted.profile is not None:
        query = query.where(CaseRow.profile == wanted.profile)
    if wanted.client_reference_id is not None:
        query = query.where(CaseRow.client_reference_id == wanted.client_reference_id)
    if wanted.created_from is not None:
        query = query.where(CaseRow.created_at >= wanted.created_from)
    if wanted.created_before is not None:
        query = query.where(CaseRow.created_at < wanted.created_before)
    return query.order_by(CaseRow.id.desc()).limit(limit)


def listed(row: Row[Any], values: Values | None) -> ListedCase:
    """Convert a row of that query. values: None if the data key of the case was erased. Raises SealBrokenError."""
    return ListedCase(
        id=row.id,
        status=row.status,
        profile=row.profile,
        livemode=not is_sandbox(row.profile),
        client_reference_id=row.client_reference_id,
        metadata=metadata_of(row, values) if values else {},
        outcome=row.outcome,
        created_at=row.created_at,
        updated_at=row.updated_at,
        expires_at=row.expires_at,
    )
