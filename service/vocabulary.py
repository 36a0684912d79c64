"""The words of the API that store, schemas and client share: statuses, event types, scopes. It imports no room."""

from __future__ import annotations

from typing import Literal

Status = Literal["requires_input", "processing", "completed", "in_review", "canceled", "expired", "redacted"]
StepStatus = Literal["wanted", "received", "retake"]
OPEN: tuple[Status, ...] = ("requires_input", "processing")


EventType = Literal[
    "case.requires_input",
    "case.processing",
    "case.completed",
    "case.in_review",
    "case.canceled",
    "case.expired",
    "case.redacted",
]
"""One per status of a case."""
DeliveryState = Literal["pending", "delivered", "failed"]


Scope = Literal["cases:write", "cases:read", "evidence:read", "review:write", "metrics:read", "admin"]
"""`admin` includes all other scopes."""
Migrations = Literal["at_start", "by_command"]
