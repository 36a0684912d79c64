"""The words of the API that storage, schemas and client share: statuses, event types, scopes. Imports nothing."""

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
"""One for each status of a case."""


DeliveryState = Literal["pending", "delivered", "failed"]


Scope = Literal["cases:write", "cases:read", "evidence:read", "review:write", "metrics:read", "admin"]
"""`admin` may do all that the others may."""


Migrations = Literal["at_start", "by_command"]
