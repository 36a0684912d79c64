"""The routes of `/v1`, thin: each says who may ask (`service.access`), hands to `service.cases`, shows the answer."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from prometheus_client.exposition import choose_encoder
from sse_starlette import EventSourceResponse
from starlette.responses import PlainTextResponse

from graphs.records import Outcome
from service.access import CLIENT_SECRET, REFUSED, Parts, caller, case_for, needs
from service.assembly import Service
from service.capture_page import capture_url
from service.cases import MEDIA_TYPES, UNTOLD, NewCase
from service.events import stream
from service.lifecycle import Case, Status
from service.listing import CURSOR, CaseFilter
from service.openapi import problems
from service.schemas import (
    PRINTABLE,
    CasePage,
    CaseView,
    ClientSecretView,
    CreatedView,
    Health,
    Moment,
    NewCaseBody,
    ProfileView,
    Readiness,
)

router = APIRouter()

CaseToRead = Annotated[Case, Depends(case_for("cases:read", or_secret=True))]
CaseToFill = Annotated[Case, Depends(case_for("cases:write", or_secret=True))]
CaseToChange = Annotated[Case, Depends(case_for("cases:write"))]
_MEDIA = f"""The media's bytes. Their own type may be said instead; they must be of that type then:
{", ".join(MEDIA_TYPES)}."""
"""Said in words: generators of clients that know one kind of binary body make broken code where there are seven."""


@router.post(
    "/v1/cases",
    status_code=201,
    tags=["cases"],
    responses=problems(*REFUSED, 404, 409, 413, 422, 503),
    dependencies=[Depends(needs("cases:write"))],
)
async def create_case(
    request: Request,
    parts: Parts,
    body: NewCaseBody,
    idempotency_key: Annotated[
        str | None,
        Header(
            min_length=1,
            max_length=255,
            pattern=PRINTABLE,
            description="Yours. Kept as long as the case.",
        ),
    ] = None,
) -> CreatedView:
    """Create a case. Its graph is on the cluster when this answers. With an `Idempotency-Key` a repeated request gets
    the first answer again.
    """
    new = NewCase(body.profile, body.client_reference_id, body.metadata)
    created = await parts.cases.create(new, idempotency_key, caller(request))
    opened = _opened(request, parts, created.answer["id"], (created.secret, created.secret_until))
    return CreatedView.model_validate({**created.answer, **dict(opened)})


@router.get(
    "/v1/cases",
    tags=["cases"],
    responses=problems(*REFUSED, 422, 503),
    dependencies=[Depends(needs("cases:read"))],
)
async def list_cases(
    parts: Parts,
    status: Annotated[list[Status] | None, Query(max_length=8)] = None,
    outcome: Annotated[list[Outcome] | None, Query(max_length=8)] = None,
    profile: Annotated[str | None, Query(max_length=64, pattern=PRINTABLE)] = None,
    client_reference_id: Annotated[str | None, Query(max_length=255, pattern=PRINTABLE)] = None,
    created_from: Annotated[Moment | None, Query(description="Created then or later.")] = None,
    created_before: Annotated[Moment | None, Query(description="Created before that.")] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    cursor: Annotated[str | None, Query(pattern=CURSOR, description="`next_cursor` of the page before.")] = None,
) -> CasePage:
    """Cases without their checks, the newest first, page by page. Cases that come meanwhile do not shift the pages."""
    wanted = CaseFilter(
        tuple(status or ()), tuple(outcome or ()), profile, client_reference_id, created_from, created_before
    )
    return CasePage.of(*await parts.store.page(wanted, limit, cursor))


@router.get("/v1/cases/{case_id}", tags=["cases"], responses=problems(*REFUSED, 404, 503))
async def get_case(request: Request, parts: Parts, case: CaseToRead) -> CaseView:
    """Status, steps with the reasons for a retake, checks as far as they have come, decision and timings."""
    so_far = await parts.store.events(case.id) if case.recorded is None else []
    return _shown(request, CaseView.of(case, so_far))


def _shown(request: Request, view: CaseView) -> CaseView:
    return view.without_review() if caller(request) == CLIENT_SECRET else view


@router.put(
    "/v1/cases/{case_id}/uploads/{step}",
    status_code=202,
    tags=["cases"],
    responses=problems(*REFUSED, 404, 408, 409, 413, 415, 422, 503),
    openapi_extra={
        "requestBody": {
            "required": True,
            "description": _MEDIA,
            "content": {UNTOLD: {"schema": {"type": "string", "format": "binary"}}},
        }
    },
)
async def put_upload(
    request: Request, parts: Parts, case: CaseToFill, step: Annotated[str, Path(max_length=32)]
) -> CaseView:
    """Upload the media of a step as the raw body. It is durable when this answers; on any other answer the step stays
    open as it was.
    """
    content_type = request.headers.get("content-type", "").split(";")[0].strip().lower()
    announced = request.headers.get("content-length", "")
    length = int(announced) if announced.isdecimal() else None
    taken = await parts.cases.upload(case, step, content_type, length, request.stream(), caller(request))
    return _shown(request, CaseView.of(taken))


@router.get(
    "/v1/cases/{case_id}/events",
    tags=["cases"],
    response_class=EventSourceResponse,
    responses={
        200: {
            "description": "Events `status`, `step`, `check`, `decision`",
            "content": {"text/event-stream": {}},
        },
        204: {"description": "The case is closed and all was told; do not connect again"},
        **problems(*REFUSED, 404, 422, 503),
    },
)
async def get_events(
    parts: Parts,
    case: CaseToRead,
    last_event_id: Annotated[str, Header(pattern="^[0-9]{1,18}$", description="`id` of the last event read.")] = "0",
) -> Response:
    """Everything that happened to the case and, until it is closed, what happens. `Last-Event-ID` continues."""
    after = int(last_event_id)
    if not case.is_open and not await parts.store.events(case.id, after):
        return Response(status_code=204)
    events = stream(parts.store, parts.board, case.id, after)
    return EventSourceResponse(events, ping=parts.settings.event_ping_s)


@router.post("/v1/cases/{case_id}/cancel", tags=["cases"], responses=problems(*REFUSED, 404, 409, 503))
async def cancel_case(request: Request, parts: Parts, case: CaseToChange) -> CaseView:
    """End a case that is not decided yet. Harmless when repeated."""
    return CaseView.of(await parts.cases.cancel(case.id, caller(request)))


@router.post(
    "/v1/cases/{case_id}/client_secret",
    status_code=201,
    tags=["cases"],
    responses=problems(*REFUSED, 404, 503),
)
async def create_client_secret(request: Request, parts: Parts, case: CaseToChange) -> ClientSecretView:
    """Another secret for the person's device, when the time of the first one is over. Earlier ones stay good until
    their own time is over.
    """
    return _opened(request, parts, case.id, parts.cases.secret_for(case.id))


def _opened(request: Request, parts: Service, case_id: str, secret: tuple[str, datetime]) -> ClientSecretView:
    link = capture_url(request, parts.settings.public_origin, case_id, secret[0])
    return ClientSecretView(client_secret=secret[0], client_secret_expires_at=secret[1], capture_url=link)


@router.get(
    "/v1/profiles",
    tags=["profiles"],
    responses=problems(*REFUSED, 503),
    dependencies=[Depends(needs(None))],
)
async def get_profiles(parts: Parts) -> list[ProfileView]:
    """The configurations that cases can be created with."""
    return [ProfileView.of(profile) for profile in parts.cases.offered()]


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


@router.get(
    "/metrics",
    tags=["health"],
    response_class=PlainTextResponse,
    responses={
        200: {
            "description": "The text format of Prometheus",
            "content": {"text/plain": {"schema": {"type": "string"}}},
        },
        **problems(*REFUSED, 503),
    },
    dependencies=[Depends(needs("metrics:read"))],
)
async def get_metrics(request: Request, parts: Parts) -> Response:
    """Figures of this process, the store and the clusters. They count; they say nothing of a person or a case."""
    await request.app.state.gauges.look()
    encode, media_type = choose_encoder(request.headers.get("accept", ""))
    return Response(encode(parts.metrics.registry), media_type=media_type)
