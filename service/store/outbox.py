"""What webhooks say, and which are due on a change of a case. They are written in the change's own transaction, one row
for each endpoint that wants it, so that none is lost with a process. `service.webhooks.sender` sends them.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.lifecycle.case import Case, Change
from service.lifecycle.identifiers import time_ordered
from service.store.tables import DeliveryRow, EndpointRow


def body_of(case: Case, event_type: str, at: datetime) -> str:
    """The body of a webhook, as it is signed and sent: what a case has come to, and nothing of the person."""
    decision = case.recorded.decision if case.recorded else None
    reasons = decision.reasons if decision else [reason for step in case.steps.values() for reason in step.reasons]
    data: dict[str, Any] = {
        "id": case.id,
        "object": "case",
        "status": case.status,
        "profile": case.profile,
        "livemode": case.livemode,
        "client_reference_id": case.client_reference_id,
        "outcome": decision.outcome if decision else None,
        "reasons": list(dict.fromkeys(reason.code for reason in reasons)),
    }
    return json.dumps({"type": event_type, "timestamp": at.isoformat(), "data": data}, separators=(",", ":"))


def told_statuses(change: Change) -> list[str]:
    """The statuses that a change came to. A decision, or a step to be taken again, is told as well where the case stays
    what it was: as long as another step is missing it `requires_input` before and after.
    """
    statuses = [str(event.data["status"]) for event in change.events if event.type == "status"]
    is_news = any(event.type == "decision" or event.data.get("state") == "retake" for event in change.events)
    return statuses or ([change.case.status] if is_news else [])


def put(session: Session, change: Change) -> None:
    """Add, in the transaction that stores the change, a delivery for each endpoint that wants to know of it."""
    case, at = change.case, change.case.updated_at
    types = [f"case.{status}" for status in told_statuses(change)]
    if not types:
        return
    # Locked where the database has such locks: an endpoint that is deleted now must not fail the case's change, and one
    # that is disabled now ends this delivery with its others.
    query = select(EndpointRow).where(EndpointRow.disabled_at.is_(None)).order_by(EndpointRow.id)
    endpoints = session.scalars(query.with_for_update(read=True)).all()
    for event_type in types:
        for endpoint in endpoints:
            if endpoint.events is None or event_type in endpoint.events:
                session.add(
                    DeliveryRow(
                        id=time_ordered("msg"),
                        endpoint_id=endpoint.id,
                        case_id=case.id,
                        type=event_type,
                        body=body_of(case, event_type, at),
                        state="pending",
                        attempts=0,
                        tries=0,
                        next_at=at,
                        created_at=at,
                    )
                )
    session.flush()
