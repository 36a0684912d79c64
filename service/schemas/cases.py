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
        raise ValueError("a time is written as in RFC 3339, with an offset: 2026-01-31T12:00:00Z")
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
        raise ValueError("there is no such time in UTC") from None


Moment = Annotated[AwareDatetime, BeforeValidator(_rfc_3339), AfterValidator(_utc)]
"""A time as the document says it (`date-time`), in UTC; pydantic alone would take numbers and dates as well."""


class NewCaseBody(BaseModel):
    """A case to create."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"profile": "standard", "client_reference_id": "order-1042", "metadata": {"shop": "east"}}]
        },
    )

    profile: Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=PRINTABLE)] = "standard"
    client_reference_id: Reference | None = Field(None, description="Your own id of the person or the attempt.")
    metadata: dict[MetadataKey, MetadataValue] = Field(
        default_factory=dict, max_length=50, description="Yours; given back as it came.", json_schema_extra=_own_keys
    )


class ReasonView(BaseModel):
    """Why something is not clear."""

    code: str
    check: str
    message: str
    retryable: bool
    step: Step | None


class StepView(BaseModel):
    """A step: `wanted`, `received`, or to be uploaded again (`retake`) for the reasons given."""

    step: Step
    accepts: list[Literal["video", "image"]] = Field([], description="Kinds of media.")  # older kept answers have none
    state: StepStatus
    attempts: int
    attempts_left: int
    reasons: list[ReasonView]


class CheckView(BaseModel):
    """One check. While the case is processing only what is known so far."""

    name: str
    result: ResultKind
    reasons: list[ReasonView] = []
    score: float | None = None
    threshold: float | None = None
    properties: dict[str, Any] = {}
    model: str = ""
    model_version: str = ""
    started_at: float | None = Field(None, description="Seconds since 1970, by the worker's clock.")
    duration_ms: float | None = None
    worker: str = ""
    breakdown: list[CheckView] = []


class DecisionView(BaseModel):
    """The decision; it may change only by a retake that it asks for, and by a person's review."""

    outcome: Outcome
    reasons: list[ReasonView]
    retake: list[Step]
    policy_version: str
    decided_at: datetime
    decided_by: str = Field(description="`policy`, `deadline`, or the id of the API key of who reviewed the case.")
    review: PersonsReview | None = Field(description="Where a person decided; not shown to the case's client secret.")


class PersonsReview(BaseModel):
    """What a person said, and what had been decided before."""

    explanation: str
    note: str | None
    replaced: DecisionView


class TimingsView(BaseModel):
    """How long a person waited: from the last byte of the last upload to the recorded decision, not to a review."""

    last_upload_at: datetime | None
    decided_at: datetime | None
    decision_ms: float | None
    reviewed_at: datetime | None


class RedactionView(BaseModel):
    """How far the erasure of what speaks of the person has come."""

    requested_at: datetime = Field(description="Since then nothing sealed can be opened any more.")
    completed_at: datetime | None = Field(description="Since then nothing is left; null while something is away.")


class CaseView(BaseModel):
    """A case. A redacted one has no reference, metadata, steps, checks and decision any more."""

    id: str
    status: Status
    profile: str
    livemode: bool = Field(description="False in a sandbox: nothing was checked, the metadata say what comes out.")
    client_reference_id: str | None
    metadata: dict[str, str]
    challenge: list[str] = Field(description="What the person does in the face scan, in this order.")
    steps: list[StepView]
    checks: list[CheckView]
    decision: DecisionView | None
    timings: TimingsView
    redaction: RedactionView | None
    created_at: datetime
    updated_at: datetime
    expires_at: datetime


class UploadView(BaseModel):
    """A media that was taken."""

    id: str
    step: Step
    attempt: int
    sha256: str = Field(description="Of the media as it was received, hexadecimal.")
    info: dict[str, Any] = Field(description="What its header says: type, size, duration.")
    received_at: datetime


class ClientSecretView(BaseModel):
    """A secret that opens one case for the person's device: its state, its events and its uploads."""

    client_secret: str
    client_secret_expires_at: datetime
    capture_url: str | None = Field(
        description="A page on which the person films; opens with the secret, which it carries. Null where the service "
        "does not know its public origin."
    )


class CreatedView(CaseView, ClientSecretView):
    """A case as it was created, with the secret for the person's device."""


class ListedCaseView(BaseModel):
    """A case in a list: without its steps and checks."""

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
    """Some cases, the newest first. next_cursor: of the page after, null on the last one."""

    data: list[ListedCaseView]
    next_cursor: str | None
