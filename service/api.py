"""The routes of `/v1`: thin, each hands to `service.cases` and shows what comes back.

There are no API keys yet. A case's `client_secret`, where it is given as `Authorization: Bearer …`, must open the case
that is asked for; without one a request is let through. `service.settings` therefore binds loopback only.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Header, Path, Request, Response, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sse_starlette import EventSourceResponse

from graphs.profile import profiles
from service.assembly import Service
from service.cases import MEDIA_TYPES, NewCase
from service.errors import WrongSecretError
from service.events import stream
from service.identifiers import opens
from service.lifecycle import Case
from service.openapi import problems
from service.schemas import CaseView, CreatedView, Health, NewCaseBody, ProfileView, Readiness

router = APIRouter()


def service_of(request: Request) -> Service:
    """The parts of the running service."""
    service: Service = request.app.state.service
    return service


Parts = Annotated[Service, Depends(service_of)]
CaseId = Annotated[str, Path(description="`case_` and 26 characters.", max_length=64)]
Bearer = HTTPBearer(auto_error=False, description="The `client_secret` of the case; see the note on access control.")


async def the_case(
    parts: Parts, case_id: CaseId, given: Annotated[HTTPAuthorizationCredentials | None, Security(Bearer)]
) -> Case:
    """The case that the path names. Raises UnknownCaseError, or WrongSecretError for a secret that is not its own."""
    case = await parts.store.get(case_id)
    if given is not None and not opens(given.credentials, case.secret_hash):
        raise WrongSecretError("use the client_secret that came with this case")
    return case


TheCase = Annotated[Case, Depends(the_case)]


@router.post("/v1/cases", status_code=201, tags=["cases"], responses=problems(404, 409, 413, 422, 503))
async def create_case(
    parts: Parts,
    body: NewCaseBody,
    idempotency_key: Annotated[str | None, Header(min_length=1, max_length=255)] = None,
) -> CreatedView:
    """Create a case. Its graph is on the cluster when this answers. With an `Idempotency-Key` a repeated request gets
    the first answer again.
    """
    new = NewCase(body.profile, body.client_reference_id, body.metadata)
    created = await parts.cases.create(new, idempotency_key)
    return CreatedView.model_validate({**created.answer, "client_secret": created.secret})


@router.get("/v1/cases/{case_id}", tags=["cases"], responses=problems(401, 404, 503))
async def get_case(parts: Parts, case: TheCase) -> CaseView:
    """Status, steps with the reasons for a retake, checks as far as they have come, decision and timings."""
    so_far = await parts.store.events(case.id) if case.recorded is None else []
    return CaseView.of(case, so_far)


@router.put(
    "/v1/cases/{case_id}/uploads/{step}",
    status_code=202,
    tags=["cases"],
    responses=problems(401, 404, 408, 409, 413, 415, 422, 503),
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {name: {"schema": {"type": "string", "format": "binary"}} for name in MEDIA_TYPES},
        }
    },
)
async def put_upload(
    request: Request, parts: Parts, case: TheCase, step: Annotated[str, Path(max_length=32)]
) -> CaseView:
    """Upload the media of a step as the raw body. It is durable when this answers; on any other answer the step stays
    open as it was.
    """
    content_type = request.headers.get("content-type", "").split(";")[0].strip().lower()
    announced = request.headers.get("content-length", "")
    length = int(announced) if announced.isdecimal() else None
    return CaseView.of(await parts.cases.upload(case, step, content_type, length, request.stream()))


@router.get(
    "/v1/cases/{case_id}/events",
    tags=["cases"],
    response_class=EventSourceResponse,
    responses={
        200: {"description": "Events `status`, `step`, `check`, `decision`", "content": {"text/event-stream": {}}},
        204: {"description": "The case is closed and all was told; do not connect again"},
        **problems(401, 404, 422, 503),
    },
)
async def get_events(
    parts: Parts, case: TheCase, last_event_id: Annotated[int, Header(ge=0, le=2**63 - 1)] = 0
) -> Response:
    """Everything that happened to the case and, until it is closed, what happens. `Last-Event-ID` continues."""
    if not case.is_open and not await parts.store.events(case.id, last_event_id):
        return Response(status_code=204)
    events = stream(parts.store, parts.board, case.id, last_event_id)
    return EventSourceResponse(events, ping=parts.settings.event_ping_s)


@router.post("/v1/cases/{case_id}/cancel", tags=["cases"], responses=problems(401, 404, 409, 503))
async def cancel_case(parts: Parts, case: TheCase) -> CaseView:
    """End a case that is not decided yet. Harmless when repeated."""
    return CaseView.of(await parts.cases.cancel(case.id))


@router.get("/v1/profiles", tags=["profiles"])
async def get_profiles() -> list[ProfileView]:
    """The configurations that cases can be created with."""
    return [ProfileView.of(profile) for profile in profiles().values()]


@router.get("/healthz", tags=["health"])
async def healthz() -> Health:
    """The process answers; says nothing of the cluster or the store."""
    return Health()


@router.get("/readyz", tags=["health"], responses={503: {"model": Readiness, "description": "Something is missing"}})
async def readyz(parts: Parts, response: Response) -> Readiness:
    """Whether cases can be taken and decided now, and what is missing if not."""
    missing = await parts.missing()
    response.status_code = 503 if missing else 200
    return Readiness(ready=not missing, missing=missing)
