"""Who asks, and what they may: API keys by their scopes, and client secrets that open one case for a while.

Every route of `/v1` says with `needs` or `case_for` which scope it wants and whether the secret of the case does too; a
test goes through all routes with every kind of credential. Who has no right to a case is told so before it is looked
for: nobody learns from an answer which cases there are.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated

import structlog
from fastapi import Depends, Path, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from service.assembly import Service
from service.crypto.client_secrets import is_client_secret
from service.errors import ForbiddenError, UnauthenticatedError, UnknownCaseError, WrongSecretError
from service.http.rate_limits import Limits
from service.lifecycle.case import Case
from service.lifecycle.identifiers import is_case_id
from service.schemas.cases import CaseView
from service.views.cases import without_review
from service.vocabulary import Scope

_SKEW = timedelta(seconds=30)
"""Added to a secret's time: the clocks of two API processes may differ by that."""

REFUSED = (401, 403, 429)
"""What every route answers to who may not ask, or not so often."""

CLIENT_SECRET = "client_secret"  # noqa: S105  it names the credential
"""Who asks with the secret of the case, for the audit log."""

CaseId = Annotated[str, Path(description="The id of the case: `case_` and 26 characters.", max_length=64)]
ApiKey = HTTPBearer(auto_error=False, scheme_name="ApiKey", description="An API key, `vd_…`.")
ClientSecret = HTTPBearer(
    auto_error=False,
    scheme_name="ClientSecret",
    description="The `client_secret` of the case, `secret_…`. For the person's device; valid for this case and a "
    "limited time.",
)
Given = Annotated[HTTPAuthorizationCredentials | None, Security(ApiKey)]
AlsoSecret = Annotated[HTTPAuthorizationCredentials | None, Security(ClientSecret)]
"""Says in the document that a secret opens it too; it comes in the same header, so what it holds is the same."""


async def service_of(request: Request) -> Service:
    """The parts of the running service. A coroutine: FastAPI calls a plain function in a thread, and a busy machine
    lets each request wait for that once more.
    """
    service: Service = request.app.state.service
    return service


def caller(request: Request) -> str:
    """Who asks, for the audit log: the id of the API key, or `client_secret`. For routes that want a credential."""
    asked: str = request.state.caller
    return asked


def limits_of(request: Request) -> Limits:
    """The request rates of this process."""
    limits: Limits = request.app.state.limits
    return limits


Parts = Annotated[Service, Depends(service_of)]


def needs(scope: Scope | None) -> Callable[..., Awaitable[None]]:
    """The dependency of a route that is for API keys with that scope alone; None: for any key.

    It raises UnauthenticatedError, ForbiddenError, TooManyRequestsError, StoreUnavailableError.
    """

    async def allowed(request: Request, given: Given) -> None:
        if given is not None and is_client_secret(given.credentials):
            raise ForbiddenError("A client secret cannot do this. Use an API key.")
        await _require_key(request, given, scope)

    return allowed


def case_for(scope: Scope, *, or_secret: bool = False) -> Callable[..., Awaitable[Case]]:
    """The dependency that gives the case of the path to API keys with that scope and, with `or_secret`, to who has the
    case's client secret.

    It raises as `needs`, WrongSecretError, and UnknownCaseError to who may read cases.
    """

    async def case(request: Request, parts: Parts, case_id: CaseId, given: Given) -> Case:
        if given is None or not is_client_secret(given.credentials):
            await _require_key(request, given, scope)
        else:
            _require_secret(parts, given.credentials, case_id)
            if not or_secret:
                raise ForbiddenError("A client secret cannot do this. Use an API key.")
            _is_asked_by(request, CLIENT_SECRET)
        if not is_case_id(case_id):
            raise UnknownCaseError("No case has this id.")
        limits_of(request).count_case(case_id)
        return await parts.store.get(case_id)

    async def case_by_either(request: Request, parts: Parts, case_id: CaseId, given: Given, _same: AlsoSecret) -> Case:
        return await case(request, parts, case_id, given)

    return case_by_either if or_secret else case


async def _require_key(request: Request, given: HTTPAuthorizationCredentials | None, scope: Scope | None) -> None:
    parts = await service_of(request)
    if given is None:
        raise UnauthenticatedError(
            "Send an API key or a client secret: `Authorization: Bearer …`. `veridask keys create` makes an API key."
        )
    key = await parts.store.keys.opened_by(given.credentials, datetime.now(UTC))
    if key is None:
        raise UnauthenticatedError("The API key is unknown, revoked or expired. Use another key.")
    _is_asked_by(request, key.id)
    limits_of(request).count_key(key.id)
    if scope is not None and scope not in key.scopes and "admin" not in key.scopes:
        raise ForbiddenError(f"The API key lacks the scope `{scope}`. Use a key that has it.")


def _is_asked_by(request: Request, who: str) -> None:
    request.state.caller = who
    structlog.contextvars.bind_contextvars(caller=who)


def _require_secret(parts: Service, secret: str, case_id: str) -> None:
    until = parts.secrets.until(secret, case_id)
    if until is None:
        raise WrongSecretError(
            "This client secret is not valid for this case. Use the one that came with the case, or an API key."
        )
    if datetime.now(UTC) >= until + _SKEW:
        raise WrongSecretError("This client secret has expired. Request a new one with an API key.")


CaseToRead = Annotated[Case, Depends(case_for("cases:read", or_secret=True))]


CaseToFill = Annotated[Case, Depends(case_for("cases:write", or_secret=True))]


CaseToChange = Annotated[Case, Depends(case_for("cases:write"))]


def shown_to(request: Request, view: CaseView) -> CaseView:
    """The case as its caller may see it: a client secret is not shown what reviewers wrote."""
    return without_review(view) if caller(request) == CLIENT_SECRET else view
