"""What goes over HTTP, as pydantic models: they check what comes in and make the OpenAPI page true."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from graphs.records import Outcome, ResultKind, Step
from service.vocabulary import Status, StepStatus

# Printable text only: a NUL or a lone surrogate could be stored by one database and not by another.
PRINTABLE = r"^[^\x00-\x1f\x7f]*$"
Reference = Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=PRINTABLE)]
MetadataKey = Annotated[str, StringConstraints(min_length=1, max_length=40, pattern=PRINTABLE)]
MetadataValue = Annotated[str, StringConstraints(max_length=500, pattern=PRINTABLE)]
_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")


def _rfc_3339(value: object) -> object:
    if isinstance(value, str) and not _RFC_3339.fullmatch(value):
        raise ValueError("Write a time as in RFC 3339, with an offset, for example 2026-01-31T12:00:00Z")
    return value


def _own_keys(schema: dict[str, Any]) -> None:
    """pydantic says of keys no more than a pattern, and that as one of several that there may be."""
    (values,) = schema.pop("patternProperties").values()
    schema["propertyNames"] = {"minLength": 1, "maxLength": 40, "pattern": PRINTABLE}
    schema["additionalProperties"] = values


def _utc(value: datetime) -> datetime:
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ValueError("This time does not exist in UTC") from None


Moment = Annotated[AwareDatetime, BeforeValidator(_rfc_3339), AfterValidator(_utc)]
"""A time as the document says it (`date-time`), in UTC; pydantic alone would take numbers and dates as well."""


class NewCaseBody(BaseModel):
    """The case to create."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"profile": "standard", "client_reference_id": "order-1042", "metadata": {"shop": "east"}}]
        },
    )

    profile: Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=PRINTABLE)] = "standard"
    client_reference_id: Reference | None = Field(
        None, description="Your own id for the person or the attempt. Do not put a name here."
    )
    metadata: dict[MetadataKey, MetadataValue] = Field(
        default_factory=dict,
        max_length=50,
        description="Your own key-value pairs; returned unchanged.",
        json_schema_extra=_own_keys,
    )


class ReasonView(BaseModel):
    """Why a check is not clear."""

    code: str
    check: str
    message: str
    retryable: bool
    step: Step | None


class StepView(BaseModel):
    """A step. Its state is `wanted`, `received`, or `retake` if it must be uploaded again for the given reasons."""

    step: Step
    accepts: list[Literal["video", "image"]] = Field(
        [], description="The kinds of media that this step accepts."
    )  # older kept answers have none
    state: StepStatus
    attempts: int
    attempts_left: int
    reasons: list[ReasonView]


class CheckView(BaseModel):
    """The result of a check. While a case is being processed, only some fields are known."""

    name: str
    result: ResultKind
    reasons: list[ReasonView] = []
    score: float | None = None
    threshold: float | None = None
    properties: dict[str, Any] = {}
    model: str = ""
    model_version: str = ""
    started_at: float | None = Field(None, description="Start time in seconds since 1970, by the worker's clock.")
    duration_ms: float | None = None
    worker: str = ""
    breakdown: list[CheckView] = []


class DecisionView(BaseModel):
    """The decision. It changes only if it asked for a retake, or by a review."""

    outcome: Outcome
    reasons: list[ReasonView]
    retake: list[Step]
    policy_version: str
    decided_at: datetime
    decided_by: str = Field(description="`policy`, `deadline`, or the id of the reviewer's API key.")
    review: PersonsReview | None = Field(description="Present if a reviewer decided. Not shown to a client secret.")


class PersonsReview(BaseModel):
    """What the reviewer wrote, and the decision that it replaced."""

    explanation: str
    note: str | None
    replaced: DecisionView


class TimingsView(BaseModel):
    """How long the person waited: from the last byte of the last upload to the automatic decision."""

    last_upload_at: datetime | None
    decided_at: datetime | None
    decision_ms: float | None
    reviewed_at: datetime | None


class RedactionView(BaseModel):
    """Progress of the erasure of personal data."""

    requested_at: datetime = Field(description="From this time on, encrypted data of the case can no longer be opened.")
    completed_at: datetime | None = Field(
        description="From this time on, nothing is left; null while a part of the service is unavailable."
    )


class CaseView(BaseModel):
    """A case. A redacted case has no reference, metadata, steps, checks or decision."""

    id: str
    status: Status
    profile: str
    livemode: bool = Field(
        description="False for a sandbox case: nothing is checked, and its metadata determines the result."
    )
    client_reference_id: str | None
    metadata: dict[str, str]
    challenge: list[str] = Field(description="The movements that the person makes in the face scan, in this order.")
    steps: list[StepView]
    checks: list[CheckView]
    decision: DecisionView | None
    timings: TimingsView
    redaction: RedactionView | None
    created_at: datetime
    updated_at: datetime
    expires_at: datetime


class UploadView(BaseModel):
    """An accepted upload."""

    id: str
    step: Step
    attempt: int
    sha256: str = Field(description="SHA-256 of the media as received, in hexadecimal.")
    info: dict[str, Any] = Field(description="What the media's header says: type, size, duration.")
    received_at: datetime


class ClientSecretView(BaseModel):
    """A client secret: it gives the person's device access to one case, to its state, its events and its uploads."""

    client_secret: str
    client_secret_expires_at: datetime
    capture_url: str | None = Field(
        description="The URL of the capture page for this case. It contains the client secret, so treat it as one. "
        "Null if the service does not know its public origin."
    )


class CreatedView(CaseView, ClientSecretView):
    """The new case, with the client secret for the person's device."""


class ListedCaseView(BaseModel):
    """A case in a list, without its steps and checks."""

    id: str
    status: Status
    profile: str
    livemode: bool
    client_reference_id: str | None
    metadata: dict[str, str]
    outcome: Outcome | None
    created_at: datetime
    updated_at: datetime
    expires_at: datetime


class CasePage(BaseModel):
    """A page of cases, newest first. `next_cursor` leads to the next page; it is null on the last one."""

    data: list[ListedCaseView]
    next_cursor: str | None
