"""Authentication and authorisation: API keys with scopes, and client secrets that open one case for a limited time.

Every route of `/v1` declares with `needs` or `case_for` the scope it requires and whether the case's client secret is
accepted too; a test calls every route with every kind of credential. Authorisation comes before the case is looked up,
so no answer reveals which cases exist.
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
"""Grace period after a secret expires: the clocks of two API processes may differ by this much."""

REFUSED = (401, 403, 429)
"""Statuses that every route can answer with when the caller is not allowed, or exceeds a rate limit."""

CLIENT_SECRET = "client_secret"  # noqa: S105  it names the credential
"""The caller's name in the audit log when the credential is the case's client secret."""

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
"""Adds the client secret to the OpenAPI document. It comes in the same header as a key, so the value is the same."""


async def service_of(request: Request) -> Service:
    """The running service. A coroutine, because FastAPI would run a plain function in a thread, for which each request
    would have to wait again on a busy machine.
    """
    service: Service = request.app.state.service
    return service


def caller(request: Request) -> str:
    """The caller for the audit log: the id of the API key, or `client_secret`. Only for routes with a credential."""
    name: str = request.state.caller
    return name


def limits_of(request: Request) -> Limits:
    """The rate limits of this process."""
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
    """Dependency that returns the case named in the path. API keys need this scope; with `or_secret` the case's client
    secret is accepted too.

    It raises what `needs` raises, WrongSecretError, and UnknownCaseError (only for callers who are allowed).
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
    """The case as this caller may see it: with a client secret, without what reviewers wrote."""
    return without_review(view) if caller(request) == CLIENT_SECRET else view
