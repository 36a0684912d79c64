"""The one translation from errors to HTTP: RFC 9457 `application/problem+json` with `type`, `title`, `status`,
`detail` and `code`. An unexpected error is logged and answered with 500 and nothing of its inside.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.routing import Match
from starlette.types import Receive, Scope, Send

from graphs.errors import MarkerError, ProfileError
from models.errors import MediaError, MediaTooLargeError, MediaTypeError, VeridaskError
from service import errors
from workers.errors import ClusterError

log = structlog.get_logger()

STATUS: Mapping[type[VeridaskError], tuple[int, str]] = {
    VeridaskError: (500, "Internal error"),
    MediaError: (422, "The media cannot be used"),
    MediaTypeError: (415, "Unsupported media type"),
    MediaTooLargeError: (413, "The media is too large"),
    ProfileError: (404, "Unknown profile"),
    MarkerError: (422, "The sandbox marker is not valid"),
    ClusterError: (503, "The cluster is not available"),
    errors.UnknownCaseError: (404, "Unknown case"),
    errors.UnknownStepError: (404, "Unknown step"),
    errors.UnauthenticatedError: (401, "Authentication required"),
    errors.WrongSecretError: (401, "The client secret is not valid for this case"),
    errors.ForbiddenError: (403, "Not allowed"),
    errors.TooManyRequestsError: (429, "Too many requests"),
    errors.CaseClosedError: (409, "The case is not open"),
    errors.CaseOpenError: (409, "The case has not ended"),
    errors.NotInReviewError: (409, "The case is not in review"),
    errors.NoAttemptsError: (409, "No attempts are left"),
    errors.StepTakenError: (409, "The step is not open"),
    errors.ConflictError: (409, "Conflict with another request"),
    errors.IdempotencyError: (409, "The Idempotency-Key was used with a different request"),
    errors.UploadTimeoutError: (408, "The upload took too long"),
    errors.TusRequestError: (400, "Not a valid tus 1.0 request"),
    errors.TusVersionError: (412, "Unsupported version of tus"),
    errors.UnknownUploadError: (404, "Unknown upload"),
    errors.UploadEndedError: (410, "The upload has ended"),
    errors.UploadOffsetError: (409, "The upload continues at another offset"),
    errors.UploadBusyError: (423, "The upload is locked by another request"),
    errors.UploadPiecesError: (409, "The upload arrived in too many pieces"),
    errors.ChecksumError: (460, "The checksum does not match"),
    errors.UnknownEndpointError: (404, "Unknown webhook endpoint"),
    errors.UnknownDeliveryError: (404, "Unknown webhook delivery"),
    errors.EndpointDisabledError: (409, "The webhook endpoint is disabled"),
    errors.TooManyEndpointsError: (409, "Too many webhook endpoints"),
    errors.WebhookUrlError: (422, "The webhook URL is not allowed"),
    errors.ForgottenError: (410, "The personal data was erased"),
    errors.UnavailableError: (503, "Not available at the moment"),
    errors.StoreUnavailableError: (503, "The case store is not available"),
    errors.EvidenceUnavailableError: (503, "The evidence store is not available"),
    errors.KeyMissingError: (503, "An encryption key is missing"),
    errors.SealBrokenError: (503, "Sealed data cannot be opened"),
}
"""An error that is not listed takes the entry of its nearest parent."""

RETRY_AFTER_S = 5
BODY_READ = "veridask.body_read"
"""Set in the scope once a request was read to its end (`service.http.middleware`): then there is nothing to wait for.
"""
CODE = "veridask.code"
"""Set in the scope of a request that was answered with a problem: its code."""
_LINGER_S = 5.0
_LINGER_BYTES = 256 * 1024 * 1024


class ProblemResponse(JSONResponse):
    """A problem, answered at once even in the middle of a request body.

    After an early answer the rest of the body is read and thrown away for a bounded time before the connection is
    closed (nginx calls it a lingering close). Closing with unread bytes would make the kernel reset the connection,
    and the client would lose the answer that says why.
    """

    media_type = "application/problem+json"
    code: str

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the problem, then let the sender finish."""
        scope[CODE] = self.code
        if scope.get(BODY_READ):
            await super().__call__(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        if not any(name == b"expect" for name, _ in scope["headers"]):
            await _discard(receive)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _discard(receive: Receive) -> None:
    size = 0
    try:
        async with asyncio.timeout(_LINGER_S):
            while size < _LINGER_BYTES:
                message = await receive()
                size += len(message.get("body", b""))
                if message["type"] == "http.disconnect" or not message.get("more_body", False):
                    return
    except (TimeoutError, HTTPException):  # the rest of a body that is too large is not worth reading
        return


def problem(
    status: int, code: str, title: str, detail: str = "", *, headers: Mapping[str, str] | None = None, **more: Any
) -> ProblemResponse:
    """One problem document. `more` are extension members."""
    content = {"type": f"urn:veridask:problem:{code}", "title": title, "status": status, "code": code}
    answer = ProblemResponse({**content, "detail": detail or title, **more}, status_code=status, headers=headers)
    answer.code = code
    return answer


def status_of(error: type[VeridaskError]) -> tuple[int, str]:
    """HTTP status and title of an error class."""
    return next(STATUS[parent] for parent in error.__mro__ if parent in STATUS)


async def _veridask_error(_request: Request, error: VeridaskError) -> ProblemResponse:
    status, title = status_of(type(error))
    headers = {"Retry-After": str(RETRY_AFTER_S)} if status == 503 else {}
    if isinstance(error, errors.TooManyRequestsError):
        headers["Retry-After"] = str(math.ceil(error.retry_after_s))
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if status == 500:
        log.error("internal_error", exc_info=error)
        return problem(500, "internal_error", title)
    return problem(status, error.code, title, error.detail, headers=headers)


async def _invalid(request: Request, error: RequestValidationError) -> ProblemResponse:
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not content_type.endswith(("/json", "+json")) and any(_is_unread_body(e) for e in error.errors()):
        status, title = status_of(MediaTypeError)
        return problem(
            status, MediaTypeError.code, title, "Send the body as JSON and set Content-Type to application/json."
        )
    # The rejected input is left out: it may hold something of a person.
    fields = [{"at": "/".join(str(p) for p in e["loc"]), "message": e["msg"]} for e in error.errors()]
    return problem(
        422,
        "invalid_request",
        "The request is not valid",
        "The request is not valid. `errors` says where and why.",
        errors=fields,
    )


def _is_unread_body(error: Mapping[str, Any]) -> bool:
    """FastAPI parses only JSON that says it is; anything else is left as bytes, which are no model."""
    return bool(error["loc"] == ("body",) and error["type"] != "missing")


async def _http_exception(request: Request, error: HTTPException) -> ProblemResponse:
    if error.status_code == 400 and isinstance(error.__cause__, (ValueError, RecursionError)):
        # FastAPI's answer to a body that is no text, nests too deep or holds a number of thousands of digits.
        return problem(422, "invalid_request", "The request is not valid", "The body is not valid JSON.")
    headers = dict(error.headers or {})
    if error.status_code == 405:
        headers["Allow"] = ", ".join(_methods(request))
    codes = {404: "not_found", 405: "method_not_allowed", 413: "request_too_large"}
    code = codes.get(error.status_code, "bad_request" if error.status_code < 500 else "internal_error")
    return problem(error.status_code, code, error.detail, headers=headers)


def _methods(request: Request) -> list[str]:
    """What can be asked for at this path; Starlette says only the methods of the first route that has it."""
    routes = request.app.routes
    return [
        method
        for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
        if any(route.matches({**request.scope, "method": method})[0] is Match.FULL for route in routes)
    ]


async def _unexpected(_request: Request, error: Exception) -> ProblemResponse:
    log.error("unexpected_error", exc_info=error)
    return problem(500, "internal_error", "Internal error")


async def _gone(_request: Request, _error: Exception) -> ProblemResponse:
    return problem(400, "client_disconnected", "The client went away")  # nobody reads it; it is no error of ours


def install(app: FastAPI) -> None:
    """Make every error of `app` a problem document."""
    app.exception_handler(VeridaskError)(_veridask_error)
    app.exception_handler(RequestValidationError)(_invalid)
    app.exception_handler(HTTPException)(_http_exception)
    app.exception_handler(ClientDisconnect)(_gone)
    app.exception_handler(Exception)(_unexpected)
