"""Makes the OpenAPI document say what is true, also where FastAPI does not know it: every error is a problem document
with its headers, a JSON body can be too large or of another type, and what was created can be asked for by its id.

`make contract` holds the running service to it; a client generated from it runs a whole case.
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from service.schemas.problems import Problem

TAGS = [
    {
        "name": "cases",
        "description": ("A case is one person's verification: create it, upload media, follow it, read the decision."),
    },
    {"name": "resumable uploads", "description": "Uploads that can continue after a lost connection, by tus 1.0."},
    {"name": "evidence", "description": "The uploaded media, and the erasure of personal data."},
    {"name": "review", "description": "For reviewers: the report of a case, and their decision."},
    {"name": "profiles", "description": "List the profiles that cases can be created with."},
    {"name": "webhooks", "description": "Webhook endpoints and the log of their deliveries."},
    {"name": "health", "description": "Liveness, readiness and metrics."},
]
_PROBLEM = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
_MEANS = {
    400: "The request does not follow tus 1.0; `detail` says where",
    401: "The credential is missing, unknown, revoked, expired, or belongs to another case",
    403: "The credential is valid but not allowed to do this",
    404: "Nothing has this name or id",
    405: "This method is not supported here",
    408: "The body did not arrive in time",
    409: "The current state, or an earlier request, does not allow this; `code` says which",
    410: "The upload has ended, or the personal data was erased",
    412: "The tus version is not supported; `Tus-Version` lists the supported ones",
    413: "The body is too large",
    415: "The media type of the body is not accepted",
    422: "The request or its media is not valid; `code` and `errors` say why",
    423: "Another request is writing to this upload",
    429: "Too many requests with this key or for this case; retry after `Retry-After`",
    460: "The checksum does not match",
    503: ("A part of the service is unavailable or full; nothing was stored. Retry after `Retry-After`"),
}
_AGAIN = {
    "Retry-After": {"description": "Seconds.", "required": True, "schema": {"type": "string", "pattern": "^[0-9]+$"}}
}
_HEADERS = {
    401: {"WWW-Authenticate": {"description": "`Bearer`.", "required": True, "schema": {"type": "string"}}},
    429: _AGAIN,
    503: _AGAIN,
}
_UNSAID = "Successful Response"
"""FastAPI's description of an answer that its route does not describe."""
_OF_A_BODY = (413, 415, 422)
"""What every operation that takes JSON can answer."""
_ELSEWHERE = {"step": "$response.body#/steps/0/step"}
"""Where the answer to a creation has parameters of paths that are not the id of what was created."""


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that can answer with these error statuses."""
    return {status: _problem(status) for status in statuses}


def operation_id(route: APIRoute) -> str:
    """Of an operation: the name of its function, which generated clients call theirs by."""
    return route.name


def install(app: FastAPI) -> None:
    """Replace the document that FastAPI generates with one that knows all this."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            spec = get_openapi(
                title=app.title,
                version=app.version,
                summary=app.summary,
                description=app.description,
                license_info=app.license_info,
                routes=app.routes,
                tags=TAGS,
            )
            schemas = spec.setdefault("components", {}).setdefault("schemas", {})
            own = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas.update(own.pop("$defs", {}))
            schemas["Problem"] = own
            for name in ("HTTPValidationError", "ValidationError"):
                schemas.pop(name, None)
            for operations in spec["paths"].values():
                for operation in operations.values():
                    _complete(operation, schemas)
            _link(spec["paths"])
            app.openapi_schema = spec
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]


def _problem(status: int) -> dict[str, Any]:
    headers = {"headers": _HEADERS[status]} if status in _HEADERS else {}
    return {"description": _MEANS[status], "content": _PROBLEM, **headers}


def _complete(operation: dict[str, Any], schemas: dict[str, Any]) -> None:
    """Say what an answer is, and which problems come with a body or parameters; FastAPI's own 422 is none of ours."""
    responses = operation["responses"]
    for response in responses.values():
        if response["description"] == _UNSAID:
            shown = response.get("content", {}).get("application/json", {}).get("schema", {})
            name = shown.get("items", shown).get("$ref", "").rpartition("/")[2]
            response["description"] = schemas.get(name, {}).get("description", "Done.")
    wanted = [422] if "422" in responses else []
    if "application/json" in operation.get("requestBody", {}).get("content", {}):
        wanted += _OF_A_BODY
    responses.update({str(status): _problem(status) for status in wanted})
    # In order, so that pages and generated code read alike whoever added a status.
    operation["responses"] = dict(sorted(responses.items()))


def _link(paths: dict[str, Any]) -> None:
    """From each creation to everything that can be asked for by the id of what it made."""
    for made_at, operations in paths.items():
        created = operations.get("post", {}).get("responses", {}).get("201")
        if created is None or "{" in made_at:
            continue
        links = {}
        for path, others in paths.items():
            names = [part[1:-1] for part in path.split("/") if part.startswith("{")]
            if not path.startswith(f"{made_at}/{{") or any(name not in _ELSEWHERE for name in names[1:]):
                continue
            parameters = {names[0]: "$response.body#/id", **{name: _ELSEWHERE[name] for name in names[1:]}}
            for other in others.values():
                links[other["operationId"]] = {"operationId": other["operationId"], "parameters": parameters}
        created["links"] = links
