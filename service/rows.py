"""Between the records that the service works with and the rows of the case store's tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from graphs.records import Step
from service.lifecycle import Case
from service.tables import CaseRow, UploadRow
from service.wire import CHECKS, RECORDED, STEPS, jsonable


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


def columns_of(case: Case) -> dict[str, Any]:
    """The columns of a case's row, without its id and revision."""
    return {
        "profile": case.profile,
        "status": case.status,
        "client_reference_id": case.client_reference_id,
        "case_metadata": dict(case.metadata),
        "challenge": list(case.challenge),
        "max_attempts": case.max_attempts,
        "steps": jsonable(case.steps),
        "checks": jsonable(case.checks),
        "recorded": jsonable(case.recorded),
        "outcome": case.recorded.decision.outcome if case.recorded else None,
        "created_at": case.created_at,
        "updated_at": case.updated_at,
        "expires_at": case.expires_at,
        "last_received_at": case.last_received_at,
        "cell": case.cell,
        "replica": case.replica,
    }


def case_of(row: CaseRow) -> Case:
    """The case in a row."""
    return Case(
        id=row.id,
        profile=row.profile,
        status=row.status,  # type: ignore[arg-type]
        client_reference_id=row.client_reference_id,
        metadata=row.case_metadata,
        challenge=tuple(row.challenge),
        max_attempts=row.max_attempts,
        created_at=row.created_at,
        updated_at=row.updated_at,
        expires_at=row.expires_at,
        steps=STEPS.validate_python(row.steps),  # type: ignore[arg-type]
        last_received_at=row.last_received_at,
        recorded=RECORDED.validate_python(row.recorded) if row.recorded else None,
        checks=CHECKS.validate_python(row.checks),
        cell=row.cell,
        replica=row.replica,
    )


def upload_columns(upload: Upload) -> dict[str, Any]:
    """The columns of an upload's row."""
    return {**vars(upload), "info": jsonable(upload.info)}


def upload_of(row: UploadRow) -> Upload:
    """The upload in a row."""
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
