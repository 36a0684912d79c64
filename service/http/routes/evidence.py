"""The routes of evidence and of its end: media of a case, for who has to look at them, and redaction."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request, Response

from service.http.access import REFUSED, Parts, caller, case_for
from service.http.openapi import problems
from service.lifecycle.case import Case
from service.schemas.cases import CaseView, UploadView
from service.views.cases import case_view, upload_view

router = APIRouter(tags=["evidence"])

CaseToLookAt = Annotated[Case, Depends(case_for("evidence:read"))]
CaseToErase = Annotated[Case, Depends(case_for("admin"))]
UploadId = Annotated[str, Path(description="The id of the upload: `upload_` and 26 characters.", max_length=64)]


@router.get("/v1/cases/{case_id}/evidence", responses=problems(*REFUSED, 404, 503))
async def get_evidence(parts: Parts, case: CaseToLookAt) -> list[UploadView]:
    """List the accepted uploads of a case, oldest first, including those that had to be retaken. A redacted case has
    none.
    """
    return [upload_view(upload) for upload in await parts.store.uploads(case.id)]


@router.get(
    "/v1/cases/{case_id}/evidence/{upload_id}",
    response_class=Response,
    responses={
        200: {"description": "The media as it was received", "content": {"application/octet-stream": {}}},
        **problems(*REFUSED, 404, 503),
    },
)
async def get_media(request: Request, parts: Parts, case: CaseToLookAt, upload_id: UploadId) -> Response:
    """Download the media of an upload exactly as it was received. Each download is written to the audit log."""
    media = await parts.audited_evidence.media(await parts.audited_evidence.upload(case.id, upload_id), caller(request))
    return Response(
        media,
        media_type="application/octet-stream",  # what a person sent is not shown by a browser as what it claims to be
        headers={"Content-Disposition": f'attachment; filename="{upload_id}"'},
    )


@router.post("/v1/cases/{case_id}/redact", responses=problems(*REFUSED, 404, 409, 503))
async def redact_case(request: Request, parts: Parts, case: CaseToErase) -> CaseView:
    """Erase all personal data of a case that has ended: its media, everything read from them, its metadata and your
    reference. This cannot be undone. What stays: that the case existed, its outcome, its times, and the audit log. You
    can repeat this safely.
    """
    return case_view(await parts.redaction.redact(case.id, caller(request)))
