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
UploadId = Annotated[str, Path(description="`upload_` and 26 characters.", max_length=64)]


@router.get("/v1/cases/{case_id}/evidence", responses=problems(*REFUSED, 404, 503))
async def get_evidence(parts: Parts, case: CaseToLookAt) -> list[UploadView]:
    """All uploads that were taken, also those that were asked for again, oldest first. None of a redacted case."""
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
    """The media of an upload as it was received, as a file to download. Who reads it is written to the audit log."""
    media = await parts.audited_evidence.media(await parts.audited_evidence.upload(case.id, upload_id), caller(request))
    return Response(
        media,
        media_type="application/octet-stream",  # what a person sent is not shown by a browser as what it claims to be
        headers={"Content-Disposition": f'attachment; filename="{upload_id}"'},
    )


@router.post("/v1/cases/{case_id}/redact", responses=problems(*REFUSED, 404, 409, 503))
async def redact_case(request: Request, parts: Parts, case: CaseToErase) -> CaseView:
    """Erase all that speaks of the person of a case that has ended: media, what was read from them, metadata, your
    reference. It cannot be undone. What stays is that there was a case, its outcome, its times, and the audit log.
    Harmless when repeated.
    """
    return case_view(await parts.redaction.redact(case.id, caller(request)))
