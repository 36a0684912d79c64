"""Resumable uploads over tus 1.0, thin: who may ask, what the request says (`service.uploads.tus_protocol`), what
`service.uploads.resumable` makes of it. Every answer names the version. Locations are relative: they hold behind any
proxy.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Path, Request, Response
from fastapi.routing import APIRoute
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive, Scope, Send

from models.errors import MediaTypeError
from service.http.access import REFUSED, CaseToFill, Parts, caller
from service.http.openapi import problems
from service.lifecycle.case import Case
from service.store.resumable import Resumable
from service.uploads import tus_protocol as tus

_UPLOADS = "/v1/cases/{case_id}/uploads/{step}/tus"
_UPLOAD = _UPLOADS + "/{upload_id}"
_BODY = {"content": {tus.BODY_TYPE: {"schema": {"type": "string", "format": "binary"}}}}
_BYTES = {"type": "integer", "minimum": 0, "maximum": 10**18 - 1}
_HEADERS: Mapping[str, tuple[dict[str, Any], str]] = {
    "Tus-Resumable": ({"type": "string", "enum": [tus.VERSION]}, "The version of tus; must be `1.0.0`."),
    "Upload-Length": (_BYTES, "The length of the whole upload, in bytes."),
    "Upload-Metadata": (
        {"type": "string", "example": "filetype dmlkZW8vbXA0"},
        "`filetype` and the media type in base64. Other metadata is discarded.",
    ),
    "Upload-Offset": (_BYTES, "The position of the first byte of the body, as in the last answer."),
}
_TAKEN = (408, 409, 410, 412, 413, 415, 422, 423, 460, 503)
"""What may come of bytes that are sent."""


class TusRoute(APIRoute):
    """Says the version with every answer, with problems as well."""

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""

        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Tus-Resumable"] = tus.VERSION
                if message["status"] == 412:
                    headers["Tus-Version"] = tus.VERSION
            await send(message)

        await super().handle(scope, receive, told)


def _document(*headers: str, body: bool | None = None) -> dict[str, Any]:
    """What the document says of a request that `service.uploads.tus_protocol` reads. body: whether there must be one,
    None for none.
    """
    asked = [
        {"name": name, "in": "header", "required": True, "schema": _HEADERS[name][0], "description": _HEADERS[name][1]}
        for name in ("Tus-Resumable", *headers)
    ]
    return {"parameters": asked, **({} if body is None else {"requestBody": {**_BODY, "required": body}})}


def _anywhere(path: str) -> dict[str, Any]:
    """What the document says of a request whose path may name anything."""
    names = [part[1:-1] for part in path.split("/") if part.startswith("{")]
    return {"parameters": [{"name": n, "in": "path", "required": True, "schema": {"type": "string"}} for n in names]}


router = APIRouter(route_class=TusRoute, tags=["resumable uploads"])

StepPath = Annotated[str, Path(max_length=32)]
UploadId = Annotated[
    str, Path(description="The id of the upload, as in `Location`: `upload_` and 26 characters.", max_length=64)
]


async def _tus_case(request: Request, case: CaseToFill) -> Case:
    """The case, to who may fill it and speaks this version."""
    tus.require_version(request.headers)
    return case


TusCase = Annotated[Case, Depends(_tus_case)]


@router.options(_UPLOADS, status_code=204, name="get_resumable_abilities", openapi_extra=_anywhere(_UPLOADS))
@router.options(_UPLOAD, status_code=204, name="get_resumable_upload_abilities", openapi_extra=_anywhere(_UPLOAD))
async def get_abilities(parts: Parts) -> Response:
    """Get the supported tus version, its extensions and the largest upload. Needs no credential, and is the same for
    every case and step.
    """
    return Response(status_code=204, headers=tus.discovery(parts.settings.max_upload_bytes))


@router.post(
    _UPLOADS,
    status_code=201,
    response_class=Response,
    response_description="The upload has begun; continue it at `Location`",
    responses=problems(*REFUSED, 400, 404, *_TAKEN),
    openapi_extra=_document("Upload-Length", "Upload-Metadata", body=False),
)
async def create_upload(request: Request, parts: Parts, case: TusCase, step: StepPath) -> Response:
    """Begin a resumable upload of `Upload-Length` bytes. Put its media type into `Upload-Metadata` as `filetype`. A
    body, if any, holds the first bytes. Continue at the URL in `Location`.
    """
    headers = request.headers
    media_type, length = tus.media_type_of(headers), tus.length_of(headers)
    upload = await parts.resumable.create(case, step, media_type, length)
    if _brings_bytes(request):
        upload = await _appended(request, parts, case, step, upload.id, 0)
    return Response(status_code=201, headers={"Location": f"tus/{upload.id}", **_progress(upload)})


@router.head(
    _UPLOAD,
    response_class=Response,
    response_description="`Upload-Offset` is the number of bytes stored",
    responses=problems(*REFUSED, 404, 410, 412, 503),
    openapi_extra=_document(),
)
async def get_upload_offset(parts: Parts, case: TusCase, step: StepPath, upload_id: UploadId) -> Response:
    """Get the offset of an upload. `Upload-Offset` equals `Upload-Length` only once the case has accepted the whole
    upload.
    """
    upload = await parts.resumable.get(case, step, upload_id)
    return Response(headers={"Upload-Length": str(upload.length), **_progress(upload)})


@router.patch(
    _UPLOAD,
    status_code=204,
    responses=problems(*REFUSED, 400, 404, *_TAKEN),
    openapi_extra=_document("Upload-Offset", body=True),
)
async def append_to_upload(
    request: Request, parts: Parts, case: TusCase, step: StepPath, upload_id: UploadId
) -> Response:
    """Append bytes to an upload, starting at `Upload-Offset`. After the last byte the media is accepted as by `PUT
    …/uploads/{step}`: the answer is 204 once it is stored durably, or an error that says why it was refused. A refused
    upload has ended.
    """
    if not _brings_bytes(request):
        raise MediaTypeError(f"Set Content-Type to {tus.BODY_TYPE}.")
    offset = tus.offset_of(request.headers)
    upload = await _appended(request, parts, case, step, upload_id, offset)
    return Response(status_code=204, headers=_progress(upload))


@router.delete(
    _UPLOAD,
    status_code=204,
    responses=problems(*REFUSED, 404, 409, 410, 412, 423, 503),
    openapi_extra=_document(),
)
async def end_upload(parts: Parts, case: TusCase, step: StepPath, upload_id: UploadId) -> Response:
    """Delete an unfinished upload."""
    await parts.resumable.end(case, step, upload_id)
    return Response(status_code=204)


@router.post(
    _UPLOAD,
    status_code=204,
    responses=problems(*REFUSED, 400, 404, 405, *_TAKEN),
    openapi_extra=_document(body=False),
)
async def post_to_upload(
    request: Request,
    parts: Parts,
    case: TusCase,
    step: StepPath,
    upload_id: UploadId,
    meant: Annotated[str, Header(alias="X-HTTP-Method-Override", description="`PATCH` or `DELETE`.")] = "",
) -> Response:
    """For clients that cannot send PATCH or DELETE: runs the method named in `X-HTTP-Method-Override`."""
    if meant == "PATCH":
        return await append_to_upload(request, parts, case, step, upload_id)
    if meant == "DELETE":
        return await end_upload(parts, case, step, upload_id)
    raise HTTPException(405, "X-HTTP-Method-Override is PATCH or DELETE")


def _brings_bytes(request: Request) -> bool:
    return request.headers.get("content-type", "").strip().lower() == tus.BODY_TYPE


async def _appended(request: Request, parts: Parts, case: Case, step: str, upload_id: str, offset: int) -> Resumable:
    length, checksum = tus.content_length_of(request.headers), tus.Checksum.of(request.headers)
    return await parts.resumable.append(
        case, step, upload_id, offset, length, checksum, request.stream(), caller(request)
    )


def _progress(upload: Resumable) -> dict[str, str]:
    so_far = {"Upload-Offset": str(upload.offset)}
    return so_far if upload.accepted else {**so_far, "Upload-Expires": tus.http_date(upload.expires_at)}
