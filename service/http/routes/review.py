"""The routes of who looks at cases himself: the report of a case, and his decision on one that was left to a person."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse

from service.http.access import REFUSED, Parts, caller, case_for
from service.http.openapi import problems
from service.lifecycle.case import Case
from service.pages.report.page import POLICY
from service.schemas.cases import CaseView
from service.schemas.review import ReviewBody
from service.views.cases import case_view
from service.views.review import opinion_of

router = APIRouter(tags=["review"])

CaseToLookAt = Annotated[Case, Depends(case_for("evidence:read"))]
CaseToReview = Annotated[Case, Depends(case_for("review:write"))]


@router.post("/v1/cases/{case_id}/review", responses=problems(*REFUSED, 404, 409, 413, 422, 503))
async def review_case(request: Request, parts: Parts, case: CaseToReview, body: ReviewBody) -> CaseView:
    """Decide a case that is `in_review`. The case becomes `completed`; with `resubmission_requested` it becomes
    `requires_input`, and the steps in `retake` can be uploaded again if they have attempts left. Your decision replaces
    that of the policy, which `review.replaced` still shows. If two reviewers decide at once, one of them wins. You can
    repeat this safely.
    """
    return case_view(await parts.cases.review(case, opinion_of(body), caller(request)))


@router.get(
    "/v1/cases/{case_id}/report",
    response_class=HTMLResponse,
    response_description="The report",
    responses=problems(*REFUSED, 404, 410, 503),
)
async def get_report(request: Request, parts: Parts, case: CaseToLookAt) -> HTMLResponse:
    """Get the report of a case as one HTML page: decision, pictures, checks and timeline. The page loads nothing else
    and runs no scripts. Each access is written to the audit log.
    """
    page = await parts.reports.page(case, caller(request))
    return HTMLResponse(page, headers={"Content-Security-Policy": POLICY})
