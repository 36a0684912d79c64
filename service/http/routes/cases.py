"""Cases, thin: each route says who may ask (`service.http.access`), calls `service.cases`, and shows the answer."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from sse_starlette import EventSourceResponse

from graphs.records import Outcome
from service.assembly import Service
from service.cases.commands import NewCase
from service.cases.events import stream
from service.http.access import REFUSED, CaseToChange, CaseToRead, Parts, caller, needs, shown_to
from service.http.openapi import problems
from service.pages.capture.page import capture_url
from service.schemas.cases import PRINTABLE, CasePage, CaseView, ClientSecretView, CreatedView, Moment, NewCaseBody
from service.store.listing import CURSOR, CaseFilter
from service.views.cases import case_page, case_view
from service.vocabulary import Status

router = APIRouter()


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
            description="A key of your choice that identifies this request. It is stored as long as the case.",
        ),
    ] = None,
) -> CreatedView:
    """Create a case. Repeat a request with the same `Idempotency-Key` and you get the first answer again, not a second
    case.
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
    created_from: Annotated[Moment | None, Query(description="Only cases created at this time or later.")] = None,
    created_before: Annotated[Moment | None, Query(description="Only cases created before this time.")] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    cursor: Annotated[str | None, Query(pattern=CURSOR, description="The `next_cursor` of the previous page.")] = None,
) -> CasePage:
    """List cases, newest first, in pages. Cases that are created while you page through do not shift the pages."""
    wanted = CaseFilter(
        tuple(status or ()), tuple(outcome or ()), profile, client_reference_id, created_from, created_before
    )
    return case_page(*await parts.store.page(wanted, limit, cursor))


@router.get("/v1/cases/{case_id}", tags=["cases"], responses=problems(*REFUSED, 404, 503))
async def get_case(request: Request, parts: Parts, case: CaseToRead) -> CaseView:
    """Get a case: its status, its steps with the reasons for a retake, the checks that have ended, the decision and
    timings.
    """
    so_far = await parts.store.events(case.id) if case.recorded is None else []
    return shown_to(request, case_view(case, so_far))


@router.get(
    "/v1/cases/{case_id}/events",
    tags=["cases"],
    response_class=EventSourceResponse,
    responses={
        200: {
            "description": "Events `status`, `step`, `check`, `decision`",
            "content": {"text/event-stream": {}},
        },
        204: {"description": "The case is closed and has no further events; do not reconnect"},
        **problems(*REFUSED, 404, 422, 503),
    },
)
async def get_events(
    parts: Parts,
    case: CaseToRead,
    last_event_id: Annotated[
        str, Header(pattern="^[0-9]{1,18}$", description="The `id` of the last event that you received.")
    ] = "0",
) -> Response:
    """Stream the events of a case as server-sent events: first those that have happened, then new ones until the case
    is closed. Send `Last-Event-ID` to continue after that event.
    """
    after = int(last_event_id)
    if not case.is_open and not await parts.store.events(case.id, after):
        return Response(status_code=204)
    events = stream(parts.store, parts.board, case.id, after)
    return EventSourceResponse(events, ping=parts.settings.event_ping_s)


@router.post("/v1/cases/{case_id}/cancel", tags=["cases"], responses=problems(*REFUSED, 404, 409, 503))
async def cancel_case(request: Request, parts: Parts, case: CaseToChange) -> CaseView:
    """Cancel a case that has no final decision yet. You can repeat this safely."""
    return case_view(await parts.cases.cancel(case.id, caller(request)))


@router.post(
    "/v1/cases/{case_id}/client_secret",
    status_code=201,
    tags=["cases"],
    responses=problems(*REFUSED, 404, 503),
)
async def create_client_secret(request: Request, parts: Parts, case: CaseToChange) -> ClientSecretView:
    """Create a new client secret for the person's device, for example when the first one has expired. Earlier secrets
    stay valid until they expire.
    """
    return _opened(request, parts, case.id, parts.cases.secret_for(case.id))


def _opened(request: Request, parts: Service, case_id: str, secret: tuple[str, datetime]) -> ClientSecretView:
    link = capture_url(request, parts.settings.public_origin, case_id, secret[0])
    return ClientSecretView(client_secret=secret[0], client_secret_expires_at=secret[1], capture_url=link)
