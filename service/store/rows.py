"""Converts between the records of the service and the rows of the case store's tables.

Personal data is sealed when a row is written and opened when it is read, with `Values` of the row's case. Each value is
bound to its place: table, column and row. An event has no id yet when it is sealed, so it is bound to its case and
type.

Transactions and queries are in `service.store.cases`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row

from graphs.records import Step
from service.crypto.sealing import Values
from service.lifecycle.case import Case, Event
from service.lifecycle.json_values import CHECKS, RECORDED, STEPS, jsonable
from service.store.tables import CaseRow, EventRow, RequestRow, UploadRow

_REDACTED: Mapping[str, Any] = {"case_metadata": {}, "steps": {}, "checks": []}
"""The values of the sealed columns of a redacted case."""


@dataclass(frozen=True)
class Upload:
    """One accepted media. evidence_key: its key in the evidence. info: the result of the probe, as JSON types."""

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
    """An event with its id; ids order the events of a case."""

    id: int
    case_id: str
    type: str
    data: Mapping[str, Any]
    at: datetime


@dataclass(frozen=True)
class StoredRequest:
    """A creation request: its Idempotency-Key, a digest of its body, and its answer."""

    key: str
    fingerprint: str
    case_id: str
    answer: Mapping[str, Any]


def columns_of(case: Case, values: Values) -> dict[str, Any]:
    """The columns of a case's row, without id, revision and data key."""

    def sealed(column: str, value: Any) -> bytes:
        return values.seal(jsonable(value), _place(column, case.id))

    return {
        "profile": case.profile,
        "status": case.status,
        "client_reference_id": case.client_reference_id,
        "case_metadata": sealed("case_metadata", case.metadata),
        "challenge": list(case.challenge),
        "max_attempts": case.max_attempts,
        "steps": sealed("steps", case.steps),
        "checks": sealed("checks", case.checks),
        "recorded": sealed("recorded", case.recorded) if case.recorded else None,
        "outcome": case.recorded.decision.outcome if case.recorded else None,
        "created_at": case.created_at,
        "updated_at": case.updated_at,
        "expires_at": case.expires_at,
        "last_received_at": case.last_received_at,
        "cell": case.cell,
        "replica": case.replica,
    }


def erased_columns(case: Case) -> dict[str, Any]:
    """The columns that redaction overwrites. Nothing in the row is sealed any more; columns that are not listed, such
    as the outcome, stay.
    """
    return {
        "key_id": "",
        "data_key": None,
        "status": case.status,
        "client_reference_id": None,
        "case_metadata": b"",
        "challenge": [],
        "steps": b"",
        "checks": b"",
        "recorded": None,
        "updated_at": case.updated_at,
    }


def case_of(row: CaseRow, values: Values | None) -> Case:
    """The case in a row. values: None for a redacted case. Raises SealBrokenError."""

    def opened(column: str) -> Any:
        return values.open(getattr(row, column), _place(column, row.id)) if values else _REDACTED[column]

    return Case(
        id=row.id,
        profile=row.profile,
        status=row.status,  # type: ignore[arg-type]
        client_reference_id=row.client_reference_id,
        metadata=metadata_of(row, values),
        challenge=tuple(row.challenge),
        max_attempts=row.max_attempts,
        created_at=row.created_at,
        updated_at=row.updated_at,
        expires_at=row.expires_at,
        steps=STEPS.validate_python(opened("steps")),  # type: ignore[arg-type]
        last_received_at=row.last_received_at,
        recorded=RECORDED.validate_python(opened("recorded")) if values and row.recorded else None,
        checks=CHECKS.validate_python(opened("checks")),
        cell=row.cell,
        replica=row.replica,
        erased_at=row.erased_at,
    )


def metadata_of(row: CaseRow | Row[Any], values: Values | None) -> dict[str, str]:
    """The metadata in a row with at least `id` and `case_metadata`; empty for a redacted case.

    Raises SealBrokenError.
    """
    metadata: dict[str, str] = values.open(row.case_metadata, _place("case_metadata", row.id)) if values else {}
    return metadata


def _place(column: str, case_id: str) -> str:
    return f"cases.{column}/{case_id}"


def upload_columns(upload: Upload, values: Values) -> dict[str, Any]:
    """The columns of an upload's row."""
    return {**vars(upload), "info": values.seal(jsonable(upload.info), f"uploads.info/{upload.id}")}


def upload_of(row: UploadRow, values: Values) -> Upload:
    """The upload in a row. Raises SealBrokenError."""
    return Upload(
        id=row.id,
        case_id=row.case_id,
        step=row.step,  # type: ignore[arg-type]
        attempt=row.attempt,
        evidence_key=row.evidence_key,
        sha256=row.sha256,
        info=values.open(row.info, f"uploads.info/{row.id}"),
        received_at=row.received_at,
    )


def event_columns(case_id: str, event: Event, now: datetime, values: Values) -> dict[str, Any]:
    """The columns of an event's row, without its id."""
    data = values.seal(jsonable(event.data), f"events.data/{case_id}/{event.type}")
    return {"case_id": case_id, "type": event.type, "data": data, "once": event.once, "at": now}


def event_of(row: EventRow, values: Values) -> StoredEvent:
    """The event in a row. Raises SealBrokenError."""
    data = values.open(row.data, f"events.data/{row.case_id}/{row.type}")
    return StoredEvent(row.id, row.case_id, row.type, data, row.at)


def request_columns(request: StoredRequest, values: Values) -> dict[str, Any]:
    """The columns of a request's row, without its time."""
    return {**vars(request), "answer": values.seal(jsonable(request.answer), f"requests.answer/{request.key}")}


def request_of(row: RequestRow, values: Values) -> StoredRequest:
    """The request in a row. Raises SealBrokenError."""
    answer = values.open(row.answer, f"requests.answer/{row.key}")
    return StoredRequest(row.key, row.fingerprint, row.case_id, answer)
