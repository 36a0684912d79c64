"""The outbox of webhooks: which ones a change of a case causes, and their bodies.

They are written in the transaction of the change, one row for each subscribed endpoint, so that none is lost with a
process. `service.webhooks.sender` sends them.
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
    """The body of a webhook, exactly as it is signed and sent: the state of the case, without personal data."""
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


def announced_statuses(change: Change) -> list[str]:
    """The statuses to send webhooks for.

    A decision or a request for a retake is sent even if the status stays the same: while another step is missing, the
    case is `requires_input` before and after.
    """
    statuses = [str(event.data["status"]) for event in change.events if event.type == "status"]
    is_news = any(event.type == "decision" or event.data.get("state") == "retake" for event in change.events)
    return statuses or ([change.case.status] if is_news else [])


def add_deliveries(session: Session, change: Change) -> None:
    """Add a delivery for each endpoint that is subscribed to this change, in the transaction that stores it."""
    case, at = change.case, change.case.updated_at
    types = [f"case.{status}" for status in announced_statuses(change)]
    if not types:
        return
    # Locked where the database supports it: an endpoint that is deleted now must not make the change of the case fail,
    # and one that is disabled now must end this delivery too.
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
