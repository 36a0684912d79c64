"""An upload in one request, thin: the whole media is the body."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request

from service.cases.commands import MEDIA_TYPES, UNKNOWN_TYPE
from service.http.access import REFUSED, CaseToFill, Parts, caller, shown_to
from service.http.openapi import problems
from service.schemas.cases import CaseView
from service.views.cases import case_view

router = APIRouter()


_MEDIA = f"""The bytes of the media. You may declare their own type instead, one of these; the content must match it:
{", ".join(MEDIA_TYPES)}."""
"""In words, because client generators that know one kind of binary body make broken code when there are seven."""


@router.put(
    "/v1/cases/{case_id}/uploads/{step}",
    status_code=202,
    tags=["cases"],
    responses=problems(*REFUSED, 404, 408, 409, 413, 415, 422, 503),
    openapi_extra={
        "requestBody": {
            "required": True,
            "description": _MEDIA,
            "content": {UNKNOWN_TYPE: {"schema": {"type": "string", "format": "binary"}}},
        }
    },
)
async def put_upload(
    request: Request, parts: Parts, case: CaseToFill, step: Annotated[str, Path(max_length=32)]
) -> CaseView:
    """Upload the media of a step as the request body. When this answers with 202, the media is stored durably. After
    any other answer the step is unchanged, and you can upload again.
    """
    content_type = request.headers.get("content-type", "").split(";")[0].strip().lower()
    announced = request.headers.get("content-length", "")
    length = int(announced) if announced.isdecimal() else None
    taken = await parts.cases.upload(case, step, content_type, length, request.stream(), caller(request))
    return shown_to(request, case_view(taken))
