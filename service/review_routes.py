"""The routes of who looks at cases himself: the report of a case, and his decision on one that was left to a person."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

from graphs.reasons import REASONS, reason
from graphs.records import Reason, Step
from service.access import REFUSED, Parts, caller, case_for
from service.lifecycle import Case, Opinion
from service.openapi import problems
from service.report import POLICY
from service.schemas import CaseView

router = APIRouter(tags=["review"])

CaseToLookAt = Annotated[Case, Depends(case_for("evidence:read"))]
CaseToReview = Annotated[Case, Depends(case_for("review:write"))]

REVIEW = "review"
"""What reasons that a person gave name as their check."""
_TEXT = r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f]*$"
"""Printable text of several lines."""


class GivenReason(BaseModel):
    """A reason code of the API, and the step that it speaks of, where it speaks of one."""

    model_config = ConfigDict(extra="forbid")

    code: str = Field(
        max_length=64, description="One of those that checks give.", json_schema_extra={"enum": [*sorted(REASONS)]}
    )
    step: Step | None = None

    @field_validator("code")
    @classmethod
    def _known(cls, code: str) -> str:
        if code not in REASONS:
            raise ValueError("no such reason code")
        return code


class ReviewBody(BaseModel):
    """A person's decision on a case."""

    model_config = ConfigDict(extra="forbid")

    outcome: Literal["approved", "declined", "resubmission_requested"]
    explanation: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=1000, pattern=_TEXT)]
    reasons: list[GivenReason] = Field(
        default_factory=list, max_length=16, description="Shown like those of the policy, to the person as well."
    )
    retake: list[Step] = Field(
        default_factory=list,
        max_length=3,
        description="With `resubmission_requested`: the steps to upload again. There is a reason for each of them.",
    )
    note: Annotated[str, StringConstraints(max_length=4000, pattern=_TEXT)] | None = Field(
        None, description="For your own people."
    )

    @model_validator(mode="after")
    def _whole(self) -> Self:
        asks = self.outcome == "resubmission_requested"
        if asks != bool(self.retake):
            raise ValueError("retake names steps with resubmission_requested, and with that alone")
        if any(all(given.step not in (step, None) for given in self.reasons) for step in self.retake):
            raise ValueError("each step of retake needs a reason, which the person is shown")
        return self

    @property
    def opinion(self) -> Opinion:
        """As the service works with it."""
        return Opinion(self.outcome, self.explanation, self.note, self._given(), tuple(dict.fromkeys(self.retake)))

    def _given(self) -> tuple[Reason, ...]:
        again = self.outcome == "resubmission_requested"
        return tuple(reason(given.code, REVIEW, given.step, retryable=again) for given in self.reasons)


@router.post("/v1/cases/{case_id}/review", responses=problems(*REFUSED, 404, 409, 413, 422, 503))
async def review_case(request: Request, parts: Parts, case: CaseToReview, body: ReviewBody) -> CaseView:
    """Decide a case that is `in_review`. It is `completed` then, or, with `resubmission_requested`, takes the steps in
    `retake` again, if attempts are left for them, for as long as a new case would. `decision` is yours from then on,
    and shows the policy's as `review.replaced`. Of two reviewers one wins. Harmless when repeated.
    """
    return CaseView.of(await parts.cases.review(case, body.opinion, caller(request)))


@router.get(
    "/v1/cases/{case_id}/report",
    response_class=HTMLResponse,
    response_description="The page",
    responses=problems(*REFUSED, 404, 410, 503),
)
async def get_report(request: Request, parts: Parts, case: CaseToLookAt) -> HTMLResponse:
    """The case as a page that a person can read: decision, pictures, checks, timeline. One HTML file that loads nothing
    and runs nothing. Who reads it is written to the audit log.
    """
    page = await parts.reports.page(case, caller(request))
    return HTMLResponse(page, headers={"Content-Security-Policy": POLICY})
