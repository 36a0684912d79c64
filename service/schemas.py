"""What goes over HTTP, as pydantic models: they check what comes in and make the OpenAPI page true."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from graphs.flow import steps_of
from graphs.profile import Profile, profiles
from graphs.records import CheckResult, Outcome, Reason, ResultKind, Step
from service.lifecycle import Case, Recorded, Review, Status, StepState, StepStatus
from service.listing import ListedCase
from service.rows import StoredEvent, Upload
from service.wire import jsonable

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

    @classmethod
    def of(cls, reason: Reason) -> ReasonView:
        """From a record."""
        return cls(**vars(reason))


class StepView(BaseModel):
    """A step: `wanted`, `received`, or to be uploaded again (`retake`) for the reasons given."""

    step: Step
    accepts: list[Literal["video", "image"]] = Field([], description="Kinds of media.")  # older kept answers have none
    state: StepStatus
    attempts: int
    attempts_left: int
    reasons: list[ReasonView]

    @classmethod
    def of(cls, step: Step, state: StepState, case: Case) -> StepView:
        """From the case's state."""
        known = profiles().get(case.profile)  # a build may come without a profile that older cases have
        return cls(
            step=step,
            accepts=list(known.accepts.get(step, ())) if known else [],  # type: ignore[arg-type]
            state=state.state,
            attempts=state.attempts,
            attempts_left=case.max_attempts - state.attempts,
            reasons=[ReasonView.of(reason) for reason in state.reasons],
        )


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

    @classmethod
    def of(cls, check: CheckResult) -> CheckView:
        """From a record."""
        return cls.model_validate(jsonable(check))

    @classmethod
    def so_far(cls, events: Sequence[StoredEvent]) -> list[CheckView]:
        """The checks that ended in a case without a decision, by its events; an upload undoes its step's."""
        known: dict[str, CheckView] = {}
        for event in events:
            if event.type == "step" and event.data["state"] == "received":
                known = {name: view for name, view in known.items() if event.data["step"] not in steps_of(name)}
            elif event.type == "check":
                fields = {key: event.data[key] for key in ("result", "started_at", "duration_ms", "worker")}
                known[event.data["check"]] = cls.model_validate({"name": event.data["check"], **fields})
        return list(known.values())


class DecisionView(BaseModel):
    """The decision; it may change only by a retake that it asks for, and by a person's review."""

    outcome: Outcome
    reasons: list[ReasonView]
    retake: list[Step]
    policy_version: str
    decided_at: datetime
    decided_by: str = Field(description="`policy`, `deadline`, or the id of the API key of who reviewed the case.")
    review: PersonsReview | None = Field(description="Where a person decided; not shown to the case's client secret.")

    @classmethod
    def of(cls, recorded: Recorded) -> DecisionView:
        """From a record."""
        decision, review = recorded.decision, recorded.review
        return cls(
            outcome=decision.outcome,
            reasons=[ReasonView.of(reason) for reason in decision.reasons],
            retake=list(decision.retake),
            policy_version=decision.policy_version,
            decided_at=recorded.decided_at,
            decided_by=recorded.decided_by,
            review=PersonsReview.of(review) if review else None,
        )


class PersonsReview(BaseModel):
    """What a person said, and what had been decided before."""

    explanation: str
    note: str | None
    replaced: DecisionView

    @classmethod
    def of(cls, review: Review) -> PersonsReview:
        """From a record."""
        opinion = review.opinion
        return cls(explanation=opinion.explanation, note=opinion.note, replaced=DecisionView.of(review.replaced))


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

    @classmethod
    def of(cls, case: Case, so_far: Sequence[StoredEvent] = ()) -> CaseView:
        """From a case; so_far: its events, for the checks that are shown while there is no decision."""
        recorded, checks = case.recorded, [CheckView.of(check) for check in case.checks]
        if recorded is None:
            checks = CheckView.so_far(so_far)
        judged, waited = recorded.review.replaced if recorded and recorded.review else recorded, None
        if judged is not None and case.last_received_at is not None:
            waited = (judged.decided_at - case.last_received_at).total_seconds() * 1000
        return cls(
            id=case.id,
            status=case.status,
            profile=case.profile,
            livemode=case.livemode,
            client_reference_id=case.client_reference_id,
            metadata=dict(case.metadata),
            challenge=list(case.challenge),
            steps=[StepView.of(step, state, case) for step, state in case.steps.items()],
            checks=checks,
            decision=DecisionView.of(recorded) if recorded else None,
            timings=TimingsView(
                last_upload_at=case.last_received_at,
                decided_at=judged.decided_at if judged else None,
                decision_ms=waited,
                reviewed_at=recorded.decided_at if recorded and recorded.review else None,
            ),
            redaction=RedactionView(requested_at=case.updated_at, completed_at=case.erased_at)
            if case.status == "redacted"
            else None,
            created_at=case.created_at,
            updated_at=case.updated_at,
            expires_at=case.expires_at,
        )

    def without_review(self) -> CaseView:
        """The same for the person's device: what reviewers write is not for it."""
        if self.decision is None:
            return self
        return self.model_copy(update={"decision": self.decision.model_copy(update={"review": None})})


class UploadView(BaseModel):
    """A media that was taken."""

    id: str
    step: Step
    attempt: int
    sha256: str = Field(description="Of the media as it was received, hexadecimal.")
    info: dict[str, Any] = Field(description="What its header says: type, size, duration.")
    received_at: datetime

    @classmethod
    def of(cls, upload: Upload) -> UploadView:
        """From the store."""
        return cls(**{name: getattr(upload, name) for name in cls.model_fields})


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

    @classmethod
    def of(cls, cases: Sequence[ListedCase], more: bool) -> CasePage:
        """From records."""
        return cls(
            data=[ListedCaseView.model_validate(vars(case)) for case in cases],
            next_cursor=cases[-1].id if more else None,
        )


class ProfileView(BaseModel):
    """A configuration that cases can be created with."""

    name: str
    title: str
    livemode: bool
    steps: list[Step]
    accepts: dict[Step, list[Literal["video", "image"]]]
    challenge_actions: int
    open_seconds: int
    retention_days: int | None = Field(
        description="From the end of a case until it is redacted unasked; null keeps it until somebody asks."
    )
    max_attempts: int
    policy_version: str

    @classmethod
    def of(cls, profile: Profile) -> ProfileView:
        """From the profile."""
        return cls(
            name=profile.name,
            title=profile.title,
            livemode=not profile.sandbox,
            steps=list(profile.steps),
            accepts={step: list(kinds) for step, kinds in profile.accepts.items()},  # type: ignore[arg-type]
            challenge_actions=profile.challenge_actions,
            open_seconds=profile.open_seconds,
            retention_days=profile.retention_days,
            max_attempts=profile.policy.max_attempts,
            policy_version=profile.policy.version,
        )


class Health(BaseModel):
    """The process answers."""

    status: Literal["ok"] = "ok"


class Readiness(BaseModel):
    """Whether cases can be taken now, and what is missing if not."""

    ready: bool
    missing: list[str] = Field(
        description="Of: `store`, `evidence`, `scheduler`, `worker:CPU`, `worker:GPU`, `stopping`."
    )


class FieldProblem(BaseModel):
    """One thing that is wrong with a request."""

    at: str
    message: str


class Problem(BaseModel):
    """RFC 9457 problem document."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    errors: list[FieldProblem] | None = Field(None, description="With `invalid_request` only.")
